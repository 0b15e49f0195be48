"""What `verify` says of a part of a record, of added lines and of marks; what it finds is in tests/security."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.chain import Head, sealed
from carrel.audit.heads import SignedHead
from carrel.audit.keys import PUBLIC, trusted_keys
from carrel.audit.log import MARK
from carrel.audit.verify import mended, verify_directory
from carrel.durability import sync_directory
from carrel.errors import StorageFailed
from tests.fakes.clock import FakeClock
from tests.fakes.records import add, held, opened, three_days


async def test_the_later_days_are_whole_by_the_signed_end_of_the_day_before(tmp_path: Path) -> None:
    await three_days(tmp_path)
    (tmp_path / "audit" / "2026-03-01.jsonl").unlink()
    assert [str(finding) for finding in held(tmp_path)] == [
        "2026-03-02.jsonl:1: lines 1 to 4 were removed before it",
        "2026-03-01.jsonl:1: the whole day was removed, up to line 4",
    ]
    part = tmp_path / "part"
    shutil.copytree(tmp_path / "audit", part)
    trusted = trusted_keys([tmp_path / PUBLIC])
    assert verify_directory(part, trusted, part=True) == []
    (part / "heads.jsonl").unlink()
    assert next(finding.line for finding in verify_directory(part, trusted, part=True)) == 1


async def test_lines_behind_the_signed_end_are_named_and_the_next_start_notes_them(tmp_path: Path) -> None:
    await three_days(tmp_path)
    end = json.loads((tmp_path / "audit" / "head.json").read_bytes())
    head = Head(end["hash"], end["number"])
    first = head.number + 1
    day = tmp_path / "audit" / "2026-03-04.jsonl"
    for count, those in ((1, f"line {first} comes"), (2, f"lines {first} to {first + 1} come")):
        line, head = sealed(head, {"time": "2026-03-04", "action": "tenants.resume"})
        with day.open("ab") as file:
            file.write(line)
        assert [str(finding) for finding in held(tmp_path)] == [
            f"2026-03-04.jsonl:2: {those} after the signed end: a gateway that was killed wrote that last, or another "
            "hand added it"
        ], count
    assert mended(tmp_path / "audit") == []
    await opened(tmp_path)
    assert held(tmp_path) == []
    [note] = mended(tmp_path / "audit")
    assert str(note).endswith(f"lines {first} to {first + 1}: they came after the signed end")


async def test_a_mark_of_another_record_is_told(tmp_path: Path) -> None:
    audit = await three_days(tmp_path / "a")
    ends = await audit.ends()
    assert ends.end is not None
    mark = SignedHead.parse(ends.end.model_dump())
    assert mark is not None
    trusted = trusted_keys([tmp_path / "a" / PUBLIC])
    assert verify_directory(tmp_path / "a" / "audit", trusted, [mark]) == []
    other = SignedHead(mark.day, mark.number, mark.hash)
    [finding] = verify_directory(tmp_path / "a" / "audit", trusted, [other])
    assert "which is none of those trusted here" in str(finding)


async def test_nothing_is_whole(tmp_path: Path) -> None:
    await opened(tmp_path)
    assert held(tmp_path) == []
    assert verify_directory(tmp_path / "none", {}) == []


async def test_the_newest_day_under_another_name_is_told(tmp_path: Path) -> None:
    await three_days(tmp_path)
    newest = tmp_path / "audit" / "2026-03-04.jsonl"
    newest.rename(newest.with_name("2030-01-01.jsonl"))
    assert "2030-01-01.jsonl:1: the file was renamed: its end was signed as that of 2026-03-04" in map(
        str, held(tmp_path)
    )


async def test_an_empty_file_where_a_day_was_to_begin_is_no_fault(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    days = tmp_path / "audit"
    # A disk that is full as a day begins, or a death then, leaves it.
    (days / "2026-03-05.jsonl").touch()
    assert held(tmp_path) == await audit.verify() == []
    await audit.close()
    clock = FakeClock(datetime(2026, 3, 6, tzinfo=UTC))
    audit = await opened(tmp_path, clock)
    assert held(tmp_path) == []
    await add(audit, "later")
    assert (days / "2026-03-06.jsonl").stat().st_size
    assert held(tmp_path) == [], "nor once later days have begun"
    # One that was emptied is another matter.
    (days / "2026-03-02.jsonl").write_bytes(b"")
    assert any("2026-03-02.jsonl" in str(finding) and "removed" in str(finding) for finding in held(tmp_path))
    (days / "2026-03-06.jsonl").write_bytes(b"")
    assert any("cut off" in str(finding) for finding in held(tmp_path))


class Writing:
    """A gateway that goes on while its record is walked: each pause it does the next of ``steps``."""

    def __init__(self, state: Path, *steps: Callable[[], Any]) -> None:
        self.state, self.steps, self.pauses = state, list(steps), 0

    def pause(self) -> None:
        self.pauses += 1
        if self.steps:
            self.steps.pop(0)()

    def findings(self) -> list[str]:
        trusted = trusted_keys([self.state / PUBLIC])
        found = verify_directory(
            self.state / "audit",
            trusted,
            [self.state / MARK],
            looks=4,
            pause=self.pause,
        )
        return [str(finding) for finding in found]


async def test_what_a_gateway_writes_meanwhile_is_no_fault(tmp_path: Path) -> None:
    record = await three_days(tmp_path)
    await add(record, "t15")
    await add(record, "t16")
    audit = tmp_path / "audit"
    newest, end = audit / "2026-03-04.jsonl", audit / "head.json"
    whole, signed, heads = (
        newest.read_bytes(),
        end.read_bytes(),
        (audit / "heads.jsonl").read_bytes(),
    )
    lines = whole.splitlines(keepends=True)

    def written(data: bytes, of: Path = newest) -> Callable[[], Any]:
        return lambda: of.write_bytes(data)

    # Its end is behind, again and again while lines come; then it is there.
    end.write_bytes(heads.splitlines()[-1])
    writing = Writing(tmp_path, *(lambda: None for _ in range(2)), written(signed, end))
    assert writing.findings() == []
    # A line is half there, and whole at the next look.
    newest.write_bytes(whole[:-20])
    assert Writing(tmp_path, lambda: None, written(whole)).findings() == []
    # Lines came, and the end of a day before them, after the others were walked over.
    (audit / "heads.jsonl").write_bytes(b"".join(heads.splitlines(keepends=True)[:-1]))
    end.write_bytes(heads.splitlines()[-1])
    newest.write_bytes(b"")

    def midnight() -> None:
        (audit / "heads.jsonl").write_bytes(heads)
        newest.write_bytes(b"".join(lines[:2]))

    assert Writing(tmp_path, midnight, written(whole), written(signed, end)).findings() == []


async def test_a_fault_stays_one_however_often_it_is_looked_at(tmp_path: Path) -> None:
    record = await three_days(tmp_path)
    await add(record, "t15")
    newest = tmp_path / "audit" / "2026-03-04.jsonl"
    whole = newest.read_bytes()
    for wrong, said in (
        (whole[:-20], "the line is torn"), (whole + b"x", "the line is torn"), (whole * 2, "out of order"),
        (b"".join(whole.splitlines(keepends=True)[:-1]), "line 14 was cut off"),
    ):  # fmt: skip
        newest.write_bytes(wrong)
        writing = Writing(tmp_path)
        assert any(said in finding for finding in writing.findings()), said
        assert writing.pauses == 3
    newest.write_bytes(whole)
    assert Writing(tmp_path).findings() == []


async def test_an_end_whose_line_was_taken_away_again_is_no_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)
    await add(audit, "t2")
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def failing(path: Path) -> None:
        if failures:
            raise failures.pop()
        sync_directory(path)

    monkeypatch.setattr("carrel.durability.sync_directory", failing)
    with pytest.raises(StorageFailed):
        await add(audit, "t3")
    assert failures == []
    await audit.close()
    again = await opened(tmp_path)
    await add(again, "t4")
    assert held(tmp_path) == []
