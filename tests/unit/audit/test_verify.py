"""What `verify` says of a part of a record, of added lines and of marks; what it finds is in tests/security."""

import json
import shutil
from pathlib import Path

from carrel.audit.chain import Head, sealed
from carrel.audit.heads import SignedHead
from carrel.audit.keys import PUBLIC, trusted_keys
from carrel.audit.verify import mended, verify_directory
from tests.fakes.records import held, opened, three_days


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
