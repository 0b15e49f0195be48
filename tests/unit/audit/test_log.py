import asyncio
import os
import resource
import threading
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.audit.begun import Begun, Members
from carrel.audit.log import Audit
from carrel.errors import CarrelError, InvalidRequest, StorageFailed, StorageFull
from carrel.wire.control import AuditQuery
from tests.fakes.clock import FakeClock
from tests.fakes.records import add, held, opened, three_days
from tests.fakes.tenants import make_tenant


async def test_lines_are_chained_across_days_and_restarts(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    audit = await opened(tmp_path, clock)
    await add(audit, "a")
    clock.advance(120)
    await add(audit, "b")
    again = await opened(tmp_path, clock)
    await add(again, "c")
    assert sorted(p.name for p in (tmp_path / "audit").glob("*-*.jsonl")) == ["2026-03-01.jsonl", "2026-03-02.jsonl"]
    assert await again.verify() == []
    page = await again.page(AuditQuery(limit=10))
    assert [line["target"] for line in page.lines][1:] == ["a", "b", "c"]
    assert page.next is None


async def test_a_clock_that_goes_back_does_not_break_the_order(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 2, 0, 1, tzinfo=UTC))
    audit = await opened(tmp_path, clock)
    await add(audit, "a")
    clock.jump(-3600)
    await add(audit, "b")
    assert await audit.verify() == []


async def test_a_cursor_that_is_none_is_refused(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    for cursor in ("x", "-1", "", "9" * 20):
        with pytest.raises(InvalidRequest):
            await audit.page(AuditQuery(after=cursor))


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    day = min((tmp_path / "audit").glob("*-*.jsonl"))
    day.rename(tmp_path / "elsewhere")
    day.mkdir()
    with pytest.raises(CarrelError, match=f"^audit/{day.name} cannot be read by the gateway: Is a directory"):
        await audit.page(AuditQuery(limit=10))
    day.rmdir()
    (tmp_path / "elsewhere").rename(day)
    assert (await audit.page(AuditQuery(limit=10))).lines


async def test_an_end_that_is_missing_is_noted_and_hides_no_cut(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    await audit.close()
    (tmp_path / "audit/head.json").unlink()
    again = await opened(tmp_path)
    [note] = (await again.page(AuditQuery(action="audit.mend", target="head.json"))).lines
    assert note["after"] == "the signed end was missing, and the mark taken for it"
    assert await again.verify() == []
    day = max((tmp_path / "audit").glob("*-*.jsonl"))
    day.write_bytes(b"".join(day.read_bytes().splitlines(keepends=True)[:-2]))
    (tmp_path / "audit/head.json").unlink()
    cut = await opened(tmp_path)
    assert any("lines 13 to 14 were removed" in str(found) for found in await cut.verify())


async def test_a_cut_tail_is_found_after_a_restart_and_more_lines_too(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    for number in range(4):
        await add(audit, str(number))
    day = next((tmp_path / "audit").glob("*-*.jsonl"))
    day.write_bytes(b"".join(day.read_bytes().splitlines(keepends=True)[:3]))
    again = await opened(tmp_path)
    await add(again, "after")
    assert [str(f) for f in await again.verify()] == [f"{day.name}:4: lines 4 to 5 were removed before it"]


async def test_days_that_are_over_have_a_signed_end_and_all_of_it_has_one(tmp_path: Path) -> None:
    audit = await three_days(tmp_path)
    ends = await audit.ends()
    assert [(one.day, one.number) for one in ends.days] == [("2026-03-01", 4), ("2026-03-02", 8), ("2026-03-03", 12)]
    assert ends.end is not None
    assert (ends.end.day, ends.end.number) == ("2026-03-04", 13)
    assert await audit.verify() == held(tmp_path) == []


async def test_a_mark_is_kept_elsewhere_besides(tmp_path: Path) -> None:
    mark = tmp_path / "other" / "mark"
    mark.parent.mkdir()
    audit = await opened(tmp_path / "state", mark=mark)
    await add(audit, "a")
    assert mark.read_bytes() == (tmp_path / "state" / "audit" / "head.json").read_bytes()
    mark.unlink()
    mark.parent.rmdir()
    with pytest.raises(CarrelError, match=r"No such file or directory of .*other/mark"):
        await add(audit, "b")
    assert len((await audit.page(AuditQuery())).lines) == 2


async def test_a_line_behind_the_signed_end_is_noted_at_the_next_start(tmp_path: Path) -> None:
    """It is the last thing of a gateway that died, or an addition of another hand: the record says so for good."""
    audit = await opened(tmp_path)
    await add(audit, "whole")
    end = (tmp_path / "audit" / "head.json").read_bytes()
    await add(audit, "died")
    (tmp_path / "audit" / "head.json").write_bytes(end)
    again = await opened(tmp_path)
    last = (await again.page(AuditQuery(order="newest", limit=1))).lines[0]
    assert (last["action"], last["target"], last["after"]) == (
        "audit.mend", "lines 3 to 3", "they came after the signed end",
    )  # fmt: skip
    assert await again.verify() == []


async def test_a_record_from_before_there_was_a_key_gets_its_ends(tmp_path: Path) -> None:
    await three_days(tmp_path)
    for name in ("audit/heads.jsonl", "audit/head.json", "audit-mark.json", "audit-signing-key"):
        (tmp_path / name).unlink()
    again = await opened(tmp_path, FakeClock(datetime(2026, 3, 4, 13, 0, tzinfo=UTC)))
    assert await again.verify() == []
    assert [one.day for one in (await again.ends()).days] == ["2026-03-01", "2026-03-02", "2026-03-03"]


async def test_another_key_is_told(tmp_path: Path) -> None:
    await three_days(tmp_path)
    (tmp_path / "audit-signing-key").unlink()
    again = await opened(tmp_path, FakeClock(datetime(2026, 3, 4, 13, 0, tzinfo=UTC)))
    findings = [str(finding) for finding in await again.verify()]
    assert any(f.startswith("heads.jsonl:1: the end of 2026-03-01: it is signed by the key") for f in findings)


async def test_a_token_is_never_written(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    await audit.record(
        actor="ak_ops", action="x", target="t", request_id="r", outcome="ok", after={"token": "tk_acme_" + "a" * 32}
    )
    assert b"a" * 32 not in next((tmp_path / "audit").glob("*-*.jsonl")).read_bytes()


async def test_a_torn_last_line_is_mended_and_noted(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    await add(audit, "whole")
    day = next((tmp_path / "audit").glob("*-*.jsonl"))
    with day.open("ab") as file:
        file.write(b'{"n":3,"actor":"ak')
    again = await opened(tmp_path)
    page = await again.page(AuditQuery(limit=10))
    assert [line["action"] for line in page.lines] == ["audit.mend", "tenants.suspend", "audit.mend"]
    assert await again.verify() == []


async def test_many_at_once_stay_in_one_chain(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    await asyncio.gather(*(add(audit, str(n)) for n in range(30)))
    assert await audit.verify() == []


async def test_lines_that_come_together_are_synced_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = await opened(tmp_path)
    syncs: list[int] = []
    real = os.fsync

    def counted(fd: int) -> None:
        syncs.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", counted)
    await asyncio.gather(*(add(audit, str(n)) for n in range(50)))
    assert len(syncs) < 15
    assert [line["target"] for line in (await audit.page(AuditQuery())).lines][1:] == [str(n) for n in range(50)]


async def test_who_goes_away_while_a_line_is_written_takes_no_other_with_him(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    going = [asyncio.ensure_future(add(audit, str(n))) for n in range(10)]
    await asyncio.sleep(0)
    for one in (going[0], going[4]):
        one.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    assert sum(one.cancelled() for one in going) == 2
    await add(audit, "after")
    targets = [line["target"] for line in (await audit.page(AuditQuery())).lines][1:]
    assert set(targets) >= {str(n) for n in range(10) if n not in (0, 4)} | {"after"}
    assert len(targets) == len(set(targets))
    assert await audit.verify() == []


async def test_it_is_private(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    await add(audit, "a")
    assert (tmp_path / "audit").stat().st_mode & 0o077 == 0
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "audit").iterdir())


@pytest.mark.parametrize("left", [0, 1])
async def test_where_descriptors_run_out_the_chain_holds(tmp_path: Path, left: int) -> None:
    audit = await opened(tmp_path)
    await add(audit, "a")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + left, before[1]))
    try:
        with pytest.raises(CarrelError, match="Too many open files"):
            await add(audit, "b")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    await add(audit, "c")
    assert await audit.verify() == []
    page = await audit.page(AuditQuery(limit=10))
    assert [line["target"] for line in page.lines][1:] == ["a", "c"]


async def test_a_line_that_could_not_be_taken_away_stands_and_the_chain_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)
    await add(audit, "a")

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, os.strerror(5))

    with monkeypatch.context() as broken:
        broken.setattr("carrel.audit.log.replace_synced", fails)
        broken.setattr(os, "ftruncate", fails)
        with pytest.raises(CarrelError, match="Input/output error"):
            await add(audit, "b")
    await add(audit, "c")
    assert await audit.verify() == []
    page = await audit.page(AuditQuery(limit=10))
    assert [line["target"] for line in page.lines][1:] == ["a", "b", "c"]


def making(audit: Audit, target: str) -> AbstractAsyncContextManager[None]:
    return audit.change(
        actor="ak_ops", action="tenants.suspend", target=target, request_id="req_1", before=False, after=True
    )


async def told(audit: Audit) -> list[tuple[str, str]]:
    """What was done to what, and how it ended."""
    lines = (await audit.page(AuditQuery())).lines
    return [(str(line["target"]), str(line["outcome"])) for line in lines if line["action"] == "tenants.suspend"]


async def test_a_change_has_one_line_that_says_how_it_ended(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    async with making(audit, "made"):
        assert await told(audit) == []
    with pytest.raises(InvalidRequest):
        async with making(audit, "refused"):
            raise InvalidRequest("no")
    with pytest.raises(ZeroDivisionError):
        async with making(audit, "broken"):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with making(audit, "cut short"):
            raise asyncio.CancelledError
    ends = ["ok", "failed: invalid_request", "unknown", "unknown"]
    assert await told(audit) == list(zip(["made", "refused", "broken", "cut short"], ends, strict=True))
    line = (await audit.page(AuditQuery(target="made"))).lines[0]
    assert (line["before"], line["after"], "begun" in line) == (False, True, True)
    assert await audit.verify() == held(tmp_path) == []


async def test_a_change_that_was_made_is_never_told_as_failed_where_the_disk_failed_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)
    tenant = make_tenant(tmp_path)
    tenant.root.replace("sessions/a", b"old")
    real = os.fsync

    def fails(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").is_dir():
            raise OSError(5, "Input/output error")
        real(fd)

    async def replacing() -> None:
        async with making(audit, "replaced"):
            with monkeypatch.context() as patched:
                patched.setattr(os, "fsync", fails)
                tenant.root.replace("sessions/a", b"new")

    with pytest.raises(StorageFailed, match="whether the file was changed is not known"):
        await replacing()
    assert tenant.root.read("sessions/a", limit=10) == b"new"
    with pytest.raises(StorageFull):
        async with making(audit, "full"):
            raise StorageFull("nothing was written")
    assert await told(audit) == [("replaced", "unknown"), ("full", "failed: storage_full")]
    tenant.root.close()


async def test_a_change_that_a_death_cuts_short_has_its_line_at_the_next_start(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    dying = making(audit, "cut short")
    await dying.__aenter__()
    async with making(audit, "made"):
        pass
    again = await opened(tmp_path)
    assert await told(again) == [("made", "ok"), ("cut short", "unknown")]
    assert await told(await opened(tmp_path)) == [("made", "ok"), ("cut short", "unknown")]
    assert await again.verify() == []


async def test_a_death_before_the_list_was_cleared_doubles_no_line(tmp_path: Path) -> None:
    audit = await opened(tmp_path)
    for target in ("a", "b"):
        async with making(audit, target):
            pass
    assert (tmp_path / "audit/begun.jsonl").stat().st_size > 0
    assert await told(await opened(tmp_path)) == [("a", "ok"), ("b", "ok")]


async def test_a_line_that_cannot_be_kept_now_is_owed_and_comes_first_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, broken = await opened(tmp_path), OSError(5, "Input/output error")

    def fails(_: object, __: object) -> None:
        raise broken

    with monkeypatch.context() as patched:
        # Whoever asked is told that it was made: who is told of a failure makes it again.
        async with making(audit, "made"):
            patched.setattr(Audit, "_append_to_the_end", fails)
        assert await told(audit) == []
        with pytest.raises(CarrelError, match="he change was not made"):
            async with making(audit, "refused"):
                pytest.fail("it is not begun")
    async with making(audit, "later"):
        pass
    assert await told(audit) == [("made", "ok"), ("later", "ok")]
    assert await audit.verify() == []


async def test_a_line_that_could_not_be_taken_away_again_is_not_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    async def made(patched: pytest.MonkeyPatch) -> None:
        async with making(audit, "made"):
            patched.setattr(Audit, "_keep_end", fails)
            patched.setattr(os, "ftruncate", fails)

    with monkeypatch.context() as patched:
        await made(patched)
    async with making(audit, "later"):
        pass
    assert await told(audit) == [("made", "ok"), ("later", "ok")]
    # The line that stood is over as well: nothing is open any more.
    await audit.close()
    assert (tmp_path / "audit/begun.jsonl").stat().st_size == 0
    assert await audit.verify() == []


async def test_a_change_is_not_begun_where_the_mark_cannot_be_kept(tmp_path: Path) -> None:
    mark = tmp_path / "other" / "mark"
    mark.parent.mkdir()
    audit = await opened(tmp_path / "state", mark=mark)
    mark.unlink()
    mark.parent.rmdir()
    with pytest.raises(CarrelError, match=r"he change was not made.*No such file or directory of .*other/mark"):
        async with making(audit, "refused"):
            pytest.fail("it is not begun")


async def test_a_change_that_is_cancelled_before_it_begins_is_told_where_it_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, entered, may = await opened(tmp_path), threading.Event(), threading.Event()
    real = Begun.add

    def slow(self: Begun, changes: Sequence[Members]) -> None:
        entered.set()
        assert may.wait(60)
        real(self, changes)

    async def work() -> None:
        async with making(audit, "cancelled"):
            pytest.fail("it is not begun")

    monkeypatch.setattr(Begun, "add", slow)
    working = asyncio.create_task(work())
    await asyncio.to_thread(entered.wait)
    working.cancel()
    may.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await told(audit) == [("cancelled", "failed: cancelled")]


async def test_a_change_that_is_cancelled_while_another_begins_it_is_over_and_left_to_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit, entered, may = await opened(tmp_path), threading.Semaphore(0), threading.Semaphore(0)
    real = Begun.add

    def slow(self: Begun, changes: Sequence[Members]) -> None:
        entered.release()
        assert may.acquire(timeout=60)
        real(self, changes)

    async def work(target: str) -> None:
        async with making(audit, target):
            assert target != "cancelled"

    monkeypatch.setattr(Begun, "add", slow)
    first, made, cancelled = (asyncio.create_task(work(name)) for name in ("first", "made", "cancelled"))
    await asyncio.to_thread(entered.acquire)
    may.release()
    # The other two came meanwhile, and are written down together.
    await asyncio.to_thread(entered.acquire)
    for _ in range(2):
        cancelled.cancel()
        await asyncio.sleep(0)
    may.release(2)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await asyncio.gather(first, made)
    ends = [("cancelled", "failed: cancelled"), ("first", "ok"), ("made", "ok")]
    assert sorted(await told(audit)) == ends
    assert sorted(await told(await opened(tmp_path))) == ends


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


async def test_a_beginning_that_found_the_disk_broken_remembers_what_may_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)
    with monkeypatch.context() as patched:
        async with making(audit, "made"):
            patched.setattr(Audit, "_append_to_the_end", full)
    with monkeypatch.context() as patched:
        # What the next beginning tries to write stands, though it is told that it does not.
        patched.setattr(Audit, "_keep_end", full)
        patched.setattr(os, "ftruncate", full)
        with pytest.raises(CarrelError, match="he change was not made"):
            async with making(audit, "refused"):
                pytest.fail("it is not begun")
    async with making(audit, "later"):
        pass
    assert await told(audit) == [("made", "ok"), ("later", "ok")]
    assert await audit.verify() == []


async def test_lines_that_are_owed_are_written_by_themselves_and_at_a_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    audit = await opened(tmp_path, clock)
    with monkeypatch.context() as patched:
        async with making(audit, "made"):
            patched.setattr(Audit, "_append_to_the_end", full)
        while not clock.sleepers:
            await asyncio.sleep(0)
        clock.advance(1)
        while not clock.sleepers:
            await asyncio.sleep(0)
        assert await told(audit) == []
    clock.advance(1)
    while not await told(audit):
        await asyncio.sleep(0)
    with monkeypatch.context() as patched:
        async with making(audit, "last"):
            patched.setattr(Audit, "_append_to_the_end", full)
    await audit.close()
    assert await told(audit) == [("made", "ok"), ("last", "ok")]
    assert (tmp_path / "audit/begun.jsonl").stat().st_size == 0
    assert await audit.verify() == held(tmp_path) == []


async def test_a_start_on_a_full_disk_goes_on_and_owes_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = await opened(tmp_path)
    dying = making(audit, "cut short")
    await dying.__aenter__()
    day = next((tmp_path / "audit").glob("*-*.jsonl"))
    with day.open("ab") as file:
        file.write(b'{"n":2,"actor":"ak')
    with monkeypatch.context() as patched:
        patched.setattr(Audit, "_append_to_the_end", full)
        again = await opened(tmp_path)
        with pytest.raises(CarrelError, match="he disk is full: the change was not made"):
            async with making(again, "refused"):
                pytest.fail("it is not begun")
        # Nor is anything forgotten where that gateway dies as well.
        assert await told(again) == []
        await again.close()
        assert b"cut short" in (tmp_path / "audit/begun.jsonl").read_bytes()
    async with making(again, "later"):
        pass
    lines = [(line["action"], line["outcome"]) for line in (await again.page(AuditQuery())).lines]
    assert lines[1:] == [("audit.mend", "ok"), ("tenants.suspend", "unknown"), ("tenants.suspend", "ok")]
    assert await again.verify() == []


async def test_what_was_left_gets_its_lines_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = await opened(tmp_path)
    begun = [making(audit, str(number)) for number in range(90)]
    await asyncio.gather(*(one.__aenter__() for one in begun))
    groups: list[int] = []
    real = Audit._append_to_the_end

    def counted(self: Audit, lines: Sequence[Members]) -> None:
        groups.append(len(lines))
        real(self, lines)

    monkeypatch.setattr(Audit, "_append_to_the_end", counted)
    again = await opened(tmp_path)
    assert groups == [64, 26]
    assert sorted(await told(again)) == sorted((str(number), "unknown") for number in range(90))
    assert (tmp_path / "audit/begun.jsonl").stat().st_size == 0
