"""10.1: what is in the record is inert, the chain verifies, and a disk that is full stops changes and not reads."""

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from carrel.audit.log import Audit
from carrel.errors import StorageFull
from carrel.wire.control import AuditQuery
from tests.fakes.edge import ADMIN_KEY, bearer, running_edge, token_of
from tests.fakes.records import add, held, opened, three_days


async def a_record(path: Path) -> Audit:
    audit = await opened(path)
    for target in ("acme", "bravo", "evil\n\x1b]0;owned\x07\u202etxt"):
        await audit.record(actor="ak_ops", action="tenants.create", target=target, request_id="r", outcome="ok")
    return audit


async def test_S10_01_control_esc_and_bidi_characters_are_inert(tmp_path: Path) -> None:
    await a_record(tmp_path)
    raw = next((tmp_path / "audit").glob("*-*.jsonl")).read_bytes()
    assert raw.count(b"\n") == 4
    assert b"\x1b" not in raw
    assert "\u202e".encode() not in raw


async def test_S10_01_ordinary_text_stays_readable(tmp_path: Path) -> None:
    audit = await a_record(tmp_path)
    page = await audit.page(AuditQuery())
    assert [line["target"] for line in page.lines][1:3] == ["acme", "bravo"]


async def test_S10_01_the_chain_verifies(tmp_path: Path) -> None:
    await a_record(tmp_path)
    assert held(tmp_path) == []


async def test_S10_01_every_edit_of_every_member_is_found(tmp_path: Path) -> None:
    await a_record(tmp_path)
    day = next((tmp_path / "audit").glob("*-*.jsonl"))
    lines = day.read_bytes().splitlines(keepends=True)
    for at, line in enumerate(lines):
        for member in json.loads(line):
            changed = json.loads(line)
            changed[member] = "changed" if member != "n" else 77
            forged = json.dumps(changed, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            day.write_bytes(b"".join([*lines[:at], forged, *lines[at + 1 :]]))
            assert held(tmp_path), (at, member)
    day.write_bytes(b"".join(lines))
    assert held(tmp_path) == []


DAYS = ("2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04")


def lines_of(state: Path, day: str) -> list[bytes]:
    return (state / "audit" / f"{day}.jsonl").read_bytes().splitlines(keepends=True)


def put(state: Path, day: str, lines: list[bytes]) -> None:
    (state / "audit" / f"{day}.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize("day", DAYS)
async def test_S10_01_a_removed_line_is_found_and_named_wherever_it_was(tmp_path: Path, day: str) -> None:
    await three_days(tmp_path)
    lines = lines_of(tmp_path, day)
    for at in range(len(lines)):
        put(tmp_path, day, lines[:at] + lines[at + 1 :])
        named = [(finding.file, finding.line) for finding in held(tmp_path)]
        assert (f"{day}.jsonl", at + 1) in named, (at, named)
    put(tmp_path, day, lines)
    assert held(tmp_path) == []


@pytest.mark.parametrize("day", DAYS[:-1])
async def test_S10_01_moved_and_torn_lines_are_found_and_named(tmp_path: Path, day: str) -> None:
    await three_days(tmp_path)
    lines = lines_of(tmp_path, day)
    for at in range(len(lines) - 1):
        put(tmp_path, day, [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
        assert (f"{day}.jsonl", at + 1) in [(f.file, f.line) for f in held(tmp_path)]
    for at in range(len(lines)):
        put(tmp_path, day, [*lines[:at], lines[at][:-10], *lines[at + 1 :]])
        assert (f"{day}.jsonl", at + 1) in [(f.file, f.line) for f in held(tmp_path)]


def cut_with_its_ends(state: Path, day: str) -> None:
    """Another hand removes days with their ends, and puts the record's own end back to one that was signed before."""
    kept = [d for d in DAYS if d < day]
    ends = (state / "audit" / "heads.jsonl").read_bytes().splitlines(keepends=True)
    for gone in (d for d in DAYS if d >= day):
        (state / "audit" / f"{gone}.jsonl").unlink()
    (state / "audit" / "heads.jsonl").write_bytes(b"".join(ends[: len(kept) - 1]))
    (state / "audit" / "head.json").write_bytes(ends[len(kept) - 1])


@pytest.mark.parametrize("day", DAYS[1:])
async def test_S10_01_days_removed_with_their_signed_ends_are_found_by_the_mark(tmp_path: Path, day: str) -> None:
    await three_days(tmp_path)
    cut_with_its_ends(tmp_path, day)
    [finding] = held(tmp_path)
    assert (finding.file, "cut off" in finding.what) == (f"{DAYS[DAYS.index(day) - 1]}.jsonl", True)
    assert held(tmp_path, mark=False) == []


def forged_end(state: Path) -> None:
    end = json.loads((state / "audit" / "head.json").read_bytes())
    (state / "audit" / "head.json").write_text(json.dumps({**end, "number": end["number"] - 1}))


def no_end(state: Path) -> None:
    (state / "audit" / "head.json").unlink()


def no_ends_of_days(state: Path) -> None:
    (state / "audit" / "heads.jsonl").unlink()


def forged_end_of_a_day(state: Path) -> None:
    path = state / "audit" / "heads.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"number": 8', b'"number": 7'))


def no_mark(state: Path) -> None:
    (state / "audit-mark.json").unlink()


def a_whole_day_less(state: Path) -> None:
    (state / "audit" / f"{DAYS[1]}.jsonl").unlink()


@pytest.mark.parametrize(
    ("what", "where"),
    [
        (forged_end, "head.json"), (no_end, "head.json"), (no_ends_of_days, "heads.jsonl"),
        (forged_end_of_a_day, "heads.jsonl"), (no_mark, "audit-mark.json"), (a_whole_day_less, f"{DAYS[1]}.jsonl"),
    ],
)  # fmt: skip
async def test_S10_01_ends_and_marks_are_held_too(tmp_path: Path, what: Callable[[Path], None], where: str) -> None:
    await three_days(tmp_path)
    what(tmp_path)
    assert where in " ".join(finding.file for finding in held(tmp_path))


async def test_S10_01_a_record_written_anew_from_the_start_is_not_believed(tmp_path: Path) -> None:
    """Its chain is right, for anyone can compute one; its ends are signed by a key that is not this gateway's."""
    await three_days(tmp_path / "real")
    await three_days(tmp_path / "forged")
    for file in (tmp_path / "forged" / "audit").iterdir():
        (tmp_path / "real" / "audit" / file.name).write_bytes(file.read_bytes())
    assert "none of those trusted here" in str(held(tmp_path / "real")[0])


async def test_S10_01_no_tenant_reads_or_writes_it(tmp_path: Path) -> None:
    async with running_edge(tmp_path) as edge, aiohttp.ClientSession() as client:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            async with client.request(method, edge.url + "/v1/audit", headers=bearer(token_of("acme"))) as reply:
                assert reply.status == (403 if method == "GET" else 405)
        async with client.get(edge.url + "/v1/audit", headers=bearer(ADMIN_KEY)) as reply:
            assert reply.status == 200, "the permitted twin: an operator reads it"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield small
    subprocess.run(["umount", small], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 512):
            pass


async def add_many(audit: Audit) -> None:
    for _ in range(200):
        await add(audit, "x" * 1000)


async def test_S10_01_a_full_disk_stops_changes_and_not_reads(small_disk: Path) -> None:
    audit = await opened(small_disk)
    await add(audit, "before")
    fill(small_disk / "filler")
    with pytest.raises(StorageFull):
        await add_many(audit)
    kept = len((await audit.page(AuditQuery(limit=1000))).lines)
    with pytest.raises(StorageFull):
        await add(audit, "y" * 1900)
    assert len((await audit.page(AuditQuery(limit=1000))).lines) == kept
    assert await audit.verify() == []
    (small_disk / "filler").unlink()
    await add(audit, "after")
    assert await audit.verify() == []
    page = await audit.page(AuditQuery(limit=1000))
    assert page.lines[-1]["target"] == "after"
