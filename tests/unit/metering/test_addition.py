from datetime import timedelta
from decimal import Decimal
from typing import Any

import apsw
import pytest

from carrel.metering.addition import KEYS, SUMS, Table, counted, differing, grouped_between, prepare
from carrel.metering.ledger import apply
from carrel.policy.pricing import plain, total_of
from tests.unit.metering.test_ledger import NOON, made

COSTS = {
    "none": ["0"],
    "whole": ["1", "20", "300"],
    "carries within nine places": ["0.9", "0.1"],
    "carries over nine places": ["0.999999999999999999", "0.000000000000000001", "0.000000001"],
    "carries into dollars": ["999999999.999999999", "0.000000001"],
    "places beyond eighteen": ["0." + "0" * 30 + "7"] * 15,
    "as many as a batch": [f"0.{number:09d}" for number in range(1, 10**9, 10**9 // 1500)],
    "large": ["1000000000000000.000000000000000001", "2.5"],
}


def sums_in(ledger: apsw.Connection, table: Table) -> list[tuple[Any, ...]]:
    return list(ledger.execute(f"SELECT {SUMS} FROM {table}"))  # noqa: S608 - constants


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS)
def test_money_is_added_up_to_the_last_place(ledger: apsw.Connection, costs: list[str]) -> None:
    exact = plain(total_of(Decimal(cost) for cost in costs))
    apply(ledger, [made(f"r{number}", cost=Decimal(cost)) for number, cost in enumerate(costs)])
    for table in KEYS:
        assert sums_in(ledger, table)[0][0::8] == (len(costs), exact)
    longest = max(map(len, costs))
    for more in (0, 1, 40):
        [(*_, cost)] = ledger.execute(counted("session_rollups", longest + more))
        assert cost == exact
        ledger.execute(grouped_between(longest + more), (0, 1 << 62))
        day = (NOON.date().isoformat(),)
        assert [list(ledger.execute(differing(table, longest + more), day)) for table in KEYS] == [[], []]
        ledger.execute("DELETE FROM fresh")


def test_what_comes_later_is_added_to_what_is_there(ledger: apsw.Connection) -> None:
    costs = ["0.1", "0.000000000000000000000001", "12", "0.9"]
    for number, cost in enumerate(costs):
        apply(ledger, [made(f"r{number}", NOON + timedelta(hours=number), cost=Decimal(cost))])
    for table in KEYS:
        assert sums_in(ledger, table) == [(4, 4, 8, 12, 16, 20, 0, 24, "13.000000000000000000000001")]


def test_sums_that_are_few_are_added_up_by_functions_of_ours() -> None:
    connection = apsw.Connection(":memory:")
    prepare(connection)
    assert list(connection.execute("SELECT exact_add('0.1', '0.20'), exact_add('1', '0.0')")) == [("0.3", "1")]
    found = connection.execute('SELECT exact_sum(value) FROM json_each(\'["0.1", "1e-30", "2"]\')')
    assert list(found) == [("2.100000000000000000000000000001",)]
    connection.close()
