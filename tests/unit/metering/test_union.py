"""What was charged stays charged, whichever directory a tenant has."""

import errno
import os
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import apsw
import pytest

from carrel.errors import CarrelError
from carrel.metering import union
from carrel.metering.ledger import NAME, LedgerEntry, apply, entries, note, open_ledger
from carrel.metering.rollups import by_day
from carrel.metering.rows import Values
from carrel.metering.tables import SCHEMAS
from carrel.metering.union import DAMAGED, United, remove_ledger, unite
from tests.unit.metering.test_ledger import ACME, ENDING, MARCH, NOON, made


def ledger_of(state: Path, *rows: Values) -> Path:
    (state / "tenants/acme").mkdir(parents=True, exist_ok=True)
    connection = open_ledger(state, ACME)
    apply(connection, rows)
    note(connection, 1, ENDING)
    connection.close()
    return state / "tenants/acme/usage" / NAME


def rows_in(state: Path) -> list[LedgerEntry]:
    connection = open_ledger(state, ACME)
    try:
        return [entry for _, entry in entries(connection, MARCH, after=None, limit=100)]
    finally:
        connection.close()


def test_the_rows_of_both_are_there_once_with_their_sums(tmp_path: Path) -> None:
    later = NOON + timedelta(days=1)
    used = ledger_of(tmp_path / "used", made("a"), made("b", member="ann", plan="pro", plan_hash="h"), made("c", later))
    other = ledger_of(tmp_path / "other", made("a"), made("lost", rates='{"x":1}', card_hash="old", plan="team"))
    before = used.read_bytes()
    assert unite(used, other, ACME) == United(1)
    assert used.read_bytes() == before
    found = {entry.id: entry for entry in rows_in(tmp_path / "other")}
    assert sorted(found) == ["a", "b", "c", "lost"]
    assert found["b"] == next(e for e in rows_in(tmp_path / "used") if e.id == "b")
    assert (found["lost"].rate_snapshot, found["lost"].rate_card_hash, found["lost"].plan) == ('{"x":1}', "old", "team")
    connection = open_ledger(tmp_path / "other", ACME)
    sums = {day.day: (one.calls, one.cost) for (day, _), one in by_day(connection, MARCH).items()}
    assert sums == {1: (3, Decimal("0.3")), 2: (1, Decimal("0.1"))}
    with pytest.raises(apsw.ConstraintError):
        connection.execute("DELETE FROM calls")
    connection.close()
    assert [path.name for path in other.parent.iterdir()] == [NAME]


def test_a_report_that_ends_meanwhile_takes_no_row_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = ledger_of(tmp_path / "used", made("a"))
    reading = open_ledger(tmp_path / "used", ACME)
    assert by_day(reading, MARCH)
    writing = open_ledger(tmp_path / "used", ACME)
    apply(writing, [made("b")])
    writing.close()
    real = union._copy

    def copied(source: Path, target: Path) -> None:
        real(source, target)
        if source == used:
            reading.close()

    monkeypatch.setattr(union, "_copy", copied)
    other = tmp_path / "other/tenants/acme/usage" / NAME
    other.parent.mkdir(parents=True)
    assert unite(used, other, ACME) == United()
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["a", "b"]


def test_a_ledger_comes_along_where_there_was_none_and_one_of_an_older_version_is_read(tmp_path: Path) -> None:
    used = ledger_of(tmp_path / "used", made("a"))
    other = tmp_path / "other/tenants/acme/usage" / NAME
    other.parent.mkdir(parents=True)
    assert unite(used, other, ACME) == United()
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["a"]
    remove_ledger(other)
    connection = apsw.Connection(str(other))
    connection.execute(SCHEMAS[0])
    connection.pragma("user_version", 1)
    connection.close()
    assert unite(used, other, ACME) == United()
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["a"]


@pytest.mark.parametrize("at", [0, 4096])
def test_the_place_of_one_that_is_damaged_is_taken_and_it_is_put_by_as_it_was(tmp_path: Path, at: int) -> None:
    used = ledger_of(tmp_path / "used", made("a"))
    other = ledger_of(tmp_path / "other", *(made(f"{number}" * 30) for number in range(100, 200)))
    damaged = damage(other, at)
    other.with_name(f"{NAME}-wal").write_bytes(b"its log")
    put_by = unite(used, other, ACME).put_by
    assert [(other.parent / name).read_bytes() for name in put_by] == [damaged, b"its log"]
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["a"]
    assert {path.name for path in other.parent.iterdir()} == {NAME, DAMAGED}


@pytest.mark.parametrize("at", [0, 4096])
def test_a_restore_takes_the_place_of_a_ledger_that_is_damaged(tmp_path: Path, at: int) -> None:
    used = ledger_of(tmp_path / "used", *(made(f"{number}" * 30) for number in range(100, 200)))
    other = ledger_of(tmp_path / "other", made("a"))
    damaged = damage(used, at)
    for _ in range(2):
        # The same again is kept once: it is named by its content.
        [name] = unite(used, other, ACME).put_by
        assert (other.parent / name).read_bytes() == used.read_bytes() == damaged
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["a"]
    assert {path.name for path in other.parent.iterdir()} == {NAME, DAMAGED}
    assert [path.name for path in (other.parent / DAMAGED).iterdir()] == [name.partition("/")[2]]


def test_where_neither_is_whole_both_stay(tmp_path: Path) -> None:
    used, other = ledger_of(tmp_path / "used", made("a")), ledger_of(tmp_path / "other", made("b"))
    damaged = damage(used, 0), damage(other, 0)
    unite(used, other, ACME)
    assert (used.read_bytes(), other.read_bytes()) == damaged


def test_one_that_the_disk_does_not_give_stands_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, other = ledger_of(tmp_path / "used", made("a")), ledger_of(tmp_path / "other", made("b"))

    def broken(fd: int, count: int) -> bytes:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", broken)
        assert unite(used, other, ACME).put_by == ()
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["b"]


def damage(ledger: Path, at: int) -> bytes:
    """Overwrite it from there on; what it is then."""
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:at] + b"\xff" * (len(whole) - at))
    return ledger.read_bytes()


def test_one_of_a_later_version_is_not_given_up(tmp_path: Path) -> None:
    used, other = ledger_of(tmp_path / "used", made("a")), ledger_of(tmp_path / "other", made("b"))
    connection = apsw.Connection(str(used))
    connection.pragma("user_version", 999)
    connection.close()
    with pytest.raises(CarrelError, match="use a newer one"):
        unite(used, other, ACME)
    assert [entry.id for entry in rows_in(tmp_path / "other")] == ["b"]
