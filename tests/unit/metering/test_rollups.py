import json
from datetime import timedelta
from decimal import Decimal

import apsw
import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.metering.ledger import apply
from carrel.metering.recount import Recount, recount
from carrel.metering.rollups import Charged, Sums, by_day, by_split, charged, charged_of
from carrel.metering.rows import Row
from carrel.policy.periods import parse_period
from tests.unit.metering.test_ledger import ACME, MARCH, NOON, made

TIERED = json.dumps({"long_prompts": [{"over_tokens": 5}, {"over_tokens": 50}]})


def test_rows_are_split_by_what_they_are_of_and_money_stays_exact(ledger: apsw.Connection) -> None:
    tiny = Decimal("0.000000000000000001")
    apply(ledger, [
        made("a", member="ada", agent="main", cost=Decimal(10**15)), made("b", member="ada", agent="aide", cost=tiny),
        made("c", member="bob", cost=tiny), made("d", NOON + timedelta(days=1), member="ada"), made("e", model="n"),
        made("f", NOON - timedelta(days=60), member="ada"),
    ])  # fmt: skip
    day, next_day = NOON.date(), (NOON + timedelta(days=1)).date()
    by_member = by_split(ledger, MARCH, "member")
    assert {key: total.calls for key, total in by_member.items()} == {
        (day, "m", "ada"): 2, (day, "m", "bob"): 1, (day, "n", ""): 1, (next_day, "m", "ada"): 1
    }  # fmt: skip
    assert by_member[day, "m", "ada"].cost == Decimal("1000000000000000.000000000000000001")
    assert by_member[day, "m", "ada"].counts == TokenCounts(2, 4, 6, 8, 10)
    assert {key for _, model, key in by_split(ledger, MARCH, "agent") if model == "m"} == {"", "main", "aide"}
    whole = sum(by_day(ledger, MARCH).values(), Sums())
    assert sum(by_split(ledger, MARCH, "session").values(), Sums()) == whole
    assert {key for _, _, key in by_split(ledger, MARCH, "key")} == {"operator"}


def test_what_is_charged_alike_is_added_up_by_its_rates_and_tier(ledger: apsw.Connection) -> None:
    rows = [
        made("a", rates=TIERED, counts=TokenCounts(5)), made("b", rates=TIERED, counts=TokenCounts(1, 2, 3)),
        made("c", rates=TIERED, counts=TokenCounts(51)), made("d", rates=TIERED, counts=TokenCounts(60), byo=True),
        made("e", rates=TIERED, counts=TokenCounts(5), plan="pro", plan_hash="p1"), made("f", card_hash="d"),
        made("g", NOON - timedelta(days=60)),
    ]  # fmt: skip
    apply(ledger, rows[:3])
    apply(ledger, rows[3:])
    found = charged(ledger, MARCH)
    assert {key: sums.calls for key, sums in found.items()} == {
        Charged("m", TIERED, "c", "", "", False, 0): 1, Charged("m", TIERED, "c", "", "", False, 5): 1,
        Charged("m", TIERED, "c", "", "", False, 50): 1, Charged("m", TIERED, "c", "", "", True, 50): 1,
        Charged("m", TIERED, "c", "pro", "p1", False, 0): 1, Charged("m", "{}", "d", "", "", False, 0): 1,
    }  # fmt: skip
    assert {charged_of(Row.of(ACME, row)) for row in rows[:6]} == set(found)
    assert {key for _, _, key in by_split(ledger, MARCH, "key")} == {"operator", "byo"}


def test_what_a_failed_transaction_grouped_is_not_added_to_the_next(ledger: apsw.Connection) -> None:
    ledger.execute("CREATE TRIGGER no BEFORE INSERT ON session_rollups BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(CarrelError):
        apply(ledger, [made("a", rates=TIERED, counts=TokenCounts(51)), made("b", model="n")])
    assert by_day(ledger, MARCH) == {}
    ledger.execute("DROP TRIGGER no")
    written = apply(ledger, [made("c"), made("d"), made("e", model="n")])
    assert {model: sums.calls for model, sums in written.items()} == {"m": 2, "n": 1}
    assert recount(ledger) == Recount(3, ())


def test_rows_that_come_again_are_added_up_once(ledger: apsw.Connection) -> None:
    apply(ledger, [made("a"), made("b")])
    apply(ledger, [made("b"), made("c")])
    assert sum(by_day(ledger, MARCH).values(), Sums()).calls == 3
    assert by_day(ledger, parse_period("2026-02-01", NOON)) == {}
    assert recount(ledger).wrong == ()
