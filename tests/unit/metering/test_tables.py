from pathlib import Path

import apsw
import pytest

from carrel.metering.ledger import NAME, open_ledger
from carrel.metering.recount import Recount, recount
from carrel.metering.rollups import by_day
from carrel.metering.rows import micros
from carrel.metering.tables import SCHEMAS, VERSION
from tests.unit.metering.test_ledger import ACME, MARCH, NOON


@pytest.mark.parametrize("version", range(1, VERSION))
def test_a_ledger_of_an_earlier_version_gets_its_sums_from_its_calls(tmp_path: Path, version: int) -> None:
    (tmp_path / "tenants/acme/usage").mkdir(parents=True)
    old = apsw.Connection(str(tmp_path / "tenants/acme/usage" / NAME))
    for schema in SCHEMAS[:version]:
        old.execute(schema)
    old.execute(f"PRAGMA user_version = {version}")
    old.execute("INSERT INTO rates VALUES (1, 'c', '{\"long_prompts\": [{\"over_tokens\": 5}]}')")
    for number in range(10):
        old.execute(
            "INSERT INTO calls(id, started, ended, request_id, provider_request_id, session_id, agent, model, "
            "input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, tool_calls, "
            "cost_usd, rates_id, outcome, byo, estimated) "
            "VALUES (?, ?, 1, 'r', 'p', 's', 'main', 'm', ?, 0, 0, 4, 5, 6, '0.1', 1, 'ok', 0, 0)",
            (f"c{number}", micros(NOON), number),
        )
    old.close()
    ledger = open_ledger(tmp_path, ACME)
    assert ledger.pragma("user_version") == VERSION
    assert recount(ledger) == Recount(10, ())
    [total] = by_day(ledger, MARCH).values()
    assert (total.calls, total.counts.input, str(total.cost)) == (10, 45, "1")
    assert sorted(ledger.execute("SELECT tier, calls FROM rollups")) == [(0, 6), (5, 4)]
    ledger.close()
    open_ledger(tmp_path, ACME).close()
