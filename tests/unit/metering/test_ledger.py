import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import apsw
import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.ids import parse_tenant_id
from carrel.metering.ledger import NAME, apply, entries, note, open_ledger
from carrel.metering.protocol import ToolEnding
from carrel.metering.rollups import Sums, by_day
from carrel.metering.rows import Row, Values, micros
from carrel.metering.tables import SCHEMAS
from carrel.policy.periods import parse_period
from tests.unit.metering.test_rows import row

ACME = parse_tenant_id("acme")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDING = ToolEnding("req_1", "s_1", "main", "shell", "c1", "memory", 1.5)
MARCH = parse_period("2026-03-01..2026-03-31", NOON)


def made(name: str, at: datetime = NOON, **more: object) -> Values:
    return made_row(name, at, **more).values


def made_row(name: str, at: datetime = NOON, **more: object) -> Row:
    fields = {"cost": Decimal("0.1"), "counts": TokenCounts(1, 2, 3, 4, 5), **more}
    return row(id=name, started=micros(at), **fields)


def test_rows_are_written_once_and_added_up(ledger: apsw.Connection) -> None:
    apply(ledger, [made("a"), made("b", model="n"), made("c", NOON + timedelta(days=1))])
    apply(ledger, [made("c", NOON + timedelta(days=1)), made("d"), made("d"), made("a")])
    apply(ledger, [])
    sums = by_day(ledger, MARCH)
    assert {(day.day, model): (total.calls, total.cost) for (day, model), total in sums.items()} == {
        (1, "m"): (2, Decimal("0.2")), (1, "n"): (1, Decimal("0.1")), (2, "m"): (1, Decimal("0.1")),
    }  # fmt: skip
    assert [entry.id for _, entry in entries(ledger, MARCH, after=None, limit=10)] == ["a", "b", "d", "c"]
    assert by_day(ledger, parse_period("2026-02-01", NOON)) == {}


def test_pages_are_by_time_and_within_the_period(ledger: apsw.Connection) -> None:
    apply(ledger, [made(f"r{n}", NOON + timedelta(hours=n % 5 * 12)) for n in range(25)])
    seen: list[str] = []
    after = None
    while page := entries(ledger, MARCH, after=after, limit=4):
        after = page[-1][0]
        seen += [entry.id for _, entry in page]
    assert len(seen) == len(set(seen)) == 25
    day = parse_period("2026-03-02", NOON)
    assert len(entries(ledger, day, after=None, limit=99)) == 10
    assert entries(ledger, day, after=(micros(NOON + timedelta(days=9)), 1), limit=9) == []


def test_an_entry_has_everything(ledger: apsw.Connection) -> None:
    apply(ledger, [made("a", rates='{"x":1}', card_hash="h", outcome="cut", byo=True)])
    [(_, entry)] = entries(ledger, MARCH, after=None, limit=1)
    assert (entry.timestamp, entry.rate_snapshot, entry.rate_card_hash) == (NOON, '{"x":1}', "h")
    assert (entry.outcome, entry.byo, entry.estimated, entry.cost_usd) == ("cut", True, True, Decimal("0.1"))
    assert (entry.input_tokens, entry.cache_read_tokens, entry.cache_write_tokens) == (1, 2, 3)
    assert (entry.output_tokens, entry.reasoning_tokens, entry.tool_calls) == (4, 5, 6)


def test_a_ledger_that_is_not_a_plain_file_of_ours_is_not_opened(tmp_path: Path) -> None:
    usage = tmp_path / "tenants/acme/usage"
    usage.mkdir(parents=True)
    victim = tmp_path / "victim.sqlite"
    open_ledger_of_another(tmp_path, victim)
    for trap in (os.symlink, os.link):
        trap(victim, usage / "ledger.sqlite")
        with pytest.raises(CarrelError):
            open_ledger(tmp_path, ACME)
        (usage / "ledger.sqlite").unlink()
    open_ledger(tmp_path, ACME).close()


def open_ledger_of_another(state: Path, path: Path) -> None:
    (state / "tenants/other").mkdir(parents=True)
    open_ledger(state, parse_tenant_id("other")).close()
    (state / "tenants/other/usage/ledger.sqlite").rename(path)


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "tenants/acme").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tenants/acme/usage").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CarrelError):
        open_ledger(tmp_path, ACME)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_tenant_without_a_directory_gets_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_ledger(tmp_path, ACME)


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tenants/acme").mkdir(parents=True)
    connection = open_ledger(tmp_path, ACME)
    connection.pragma("user_version", 99)
    connection.close()
    with pytest.raises(CarrelError, match="version 99"):
        open_ledger(tmp_path, ACME)


def test_a_row_names_its_plan_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "tenants/acme").mkdir(parents=True)
    ledger = open_ledger(tmp_path, ACME)
    apply(ledger, [made("a", plan="pro", plan_hash="p1"), made("b", plan="pro", plan_hash="p2"), made("c")])
    apply(ledger, [made("d", plan="pro", plan_hash="p1")])
    assert list(ledger.execute("SELECT id, plan, plan_hash FROM ledger ORDER BY id")) == [
        ("a", "pro", "p1"), ("b", "pro", "p2"), ("c", "", ""), ("d", "pro", "p1")
    ]  # fmt: skip
    assert {e.id: e.plan_hash for _, e in entries(ledger, MARCH, after=None, limit=9)}["b"] == "p2"
    ledger.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_ledger_of_an_earlier_version_takes_on_what_it_lacks(tmp_path: Path, version: int) -> None:
    (tmp_path / "tenants/acme/usage").mkdir(parents=True)
    old = apsw.Connection(str(tmp_path / "tenants/acme/usage" / NAME))
    for schema in SCHEMAS[:version]:
        old.execute(schema)
    old.execute(f"PRAGMA user_version = {version}")
    old.execute("INSERT INTO rates VALUES (1, 'c', '{}')")
    old.execute(
        "INSERT INTO calls VALUES (1,'kept',?,?,'r', 'p', 's', 'main', 'm', 1, 2, 3, 4, 5, 6, '0.5', 1, 'ok', 0, 0)",
        (micros(NOON), micros(NOON)),
    )
    old.execute("INSERT INTO days VALUES ('2026-03-01', 'm', 1, 1, 2, 3, 4, 5, 6, '0.5')")
    before = list(old.execute("SELECT * FROM calls"))
    old.close()
    ledger = open_ledger(tmp_path, ACME)
    ((_, kept),) = entries(ledger, MARCH, after=None, limit=10)
    assert (kept.id, kept.cache_write_tokens, kept.cost_usd) == ("kept", 3, Decimal("0.5"))
    assert (kept.member, kept.cache_write_1h_tokens) == ("", 0)
    assert [row[:20] for row in ledger.execute("SELECT * FROM calls")] == before
    apply(ledger, [made("new", member="ada", counts=TokenCounts(1, 0, 5, 1, 0, 4))])
    assert list(ledger.execute("SELECT member, cache_write_tokens, cache_write_1h_tokens FROM ledger")) == [
        ("", 3, 0), ("ada", 5, 4)
    ]  # fmt: skip
    total = sum(by_day(ledger, MARCH).values(), Sums())
    assert (total.calls, total.counts.cache_write, total.counts.cache_write_1h) == (2, 8, 4)
    with pytest.raises(apsw.ConstraintError, match="append-only"):
        ledger.execute("UPDATE calls SET member='bob'")
    note(ledger, micros(NOON), ENDING)
    assert list(ledger.execute("SELECT * FROM tool_endings")) == [
        ("2026-03-01T12:00:00.000000Z", "req_1", "s_1", "main", "shell", "c1", "memory", 1.5)
    ]
    for change in ("UPDATE tool_endings_of SET ending='ok'", "DELETE FROM tool_endings_of"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            ledger.execute(change)
    ledger.close()
