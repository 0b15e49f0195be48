import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.audit.log import Audit, verify_directory
from carrel.errors import InvalidRequest, StorageFull
from tests.fakes.clock import FakeClock


async def audit_at(path: Path, clock: FakeClock | None = None) -> Audit:
    audit = Audit(state_dir=path, clock=clock or FakeClock())
    await audit.start()
    return audit


async def add(audit: Audit, target: str, tenant: str | None = None) -> None:
    await audit.record(
        actor="ak_ops", action="tenants.suspend", target=target, request_id="req_1", outcome="ok", tenant=tenant
    )


async def test_lines_are_chained_across_days_and_restarts(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    audit = await audit_at(tmp_path, clock)
    await add(audit, "a")
    clock.advance(120)
    await add(audit, "b")
    again = await audit_at(tmp_path, clock)
    await add(again, "c")
    assert sorted(p.name for p in (tmp_path / "audit").glob("*.jsonl")) == ["2026-03-01.jsonl", "2026-03-02.jsonl"]
    assert await again.verify() == []
    page = await again.page(after=None, limit=10, tenant=None)
    assert [line["target"] for line in page.lines] == ["a", "b", "c"]
    assert page.next is None


async def test_a_clock_that_goes_back_does_not_break_the_order(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 2, 0, 1, tzinfo=UTC))
    audit = await audit_at(tmp_path, clock)
    await add(audit, "a")
    clock.jump(-3600)
    await add(audit, "b")
    assert await audit.verify() == []


async def test_paging_goes_through_all_and_by_tenant(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    for number in range(7):
        await add(audit, str(number), tenant="acme" if number % 2 else "bravo")
    first = await audit.page(after=None, limit=3, tenant=None)
    second = await audit.page(after=first.next, limit=100, tenant=None)
    assert [line["target"] for line in (*first.lines, *second.lines)] == [str(n) for n in range(7)]
    mine = await audit.page(after=None, limit=100, tenant="acme")
    assert [line["target"] for line in mine.lines] == ["1", "3", "5"]
    with pytest.raises(InvalidRequest):
        await audit.page(after="x", limit=1, tenant=None)


async def test_a_cut_tail_is_found(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    for number in range(3):
        await add(audit, str(number))
    day = next((tmp_path / "audit").glob("*.jsonl"))
    day.write_bytes(b"".join(day.read_bytes().splitlines(keepends=True)[:2]))
    assert "were cut off" in str(verify_directory(tmp_path / "audit")[0])


async def test_a_cut_tail_is_found_after_a_restart_and_more_lines_too(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    for number in range(5):
        await add(audit, str(number))
    day = next((tmp_path / "audit").glob("*.jsonl"))
    day.write_bytes(b"".join(day.read_bytes().splitlines(keepends=True)[:3]))
    again = await audit_at(tmp_path)
    await add(again, "after")
    assert [str(f) for f in await again.verify()] == [f"{day.name}:4: lines 4 to 5 were removed before it"]


async def test_a_token_is_never_written(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    await audit.record(
        actor="ak_ops", action="x", target="t", request_id="r", outcome="ok", after={"token": "tk_acme_" + "a" * 32}
    )
    assert b"a" * 32 not in next((tmp_path / "audit").glob("*.jsonl")).read_bytes()


async def test_a_torn_last_line_is_mended_and_noted(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    await add(audit, "whole")
    day = next((tmp_path / "audit").glob("*.jsonl"))
    with day.open("ab") as file:
        file.write(b'{"n":2,"actor":"ak')
    again = await audit_at(tmp_path)
    page = await again.page(after=None, limit=10, tenant=None)
    assert [line["action"] for line in page.lines] == ["tenants.suspend", "audit.mend"]
    assert await again.verify() == []


async def test_many_at_once_stay_in_one_chain(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    await asyncio.gather(*(add(audit, str(n)) for n in range(30)))
    assert await audit.verify() == []


async def test_it_is_private(tmp_path: Path) -> None:
    audit = await audit_at(tmp_path)
    await add(audit, "a")
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "audit").iterdir())


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


async def test_a_full_disk_refuses_and_leaves_the_chain_whole(small_disk: Path) -> None:
    audit = await audit_at(small_disk)
    await add(audit, "before")
    fill(small_disk / "filler")
    with pytest.raises(StorageFull):
        await add_many(audit)
    kept = len((await audit.page(after=None, limit=1000, tenant=None)).lines)
    with pytest.raises(StorageFull):
        await add(audit, "y" * 1900)
    assert len((await audit.page(after=None, limit=1000, tenant=None)).lines) == kept
    assert await audit.verify() == []
    (small_disk / "filler").unlink()
    await add(audit, "after")
    assert await audit.verify() == []
    page = await audit.page(after=None, limit=1000, tenant=None)
    assert page.lines[-1]["target"] == "after"
