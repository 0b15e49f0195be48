import asyncio

import pytest

from carrel.errors import StorageFull
from carrel.tasks import OTHERS, Tasks, counted


async def test_what_runs_is_cancelled_at_close() -> None:
    tasks = Tasks("owner")
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = tasks.start(work(), name="sleeper")
    await asyncio.sleep(0)
    assert task.get_name() == "owner.sleeper"
    assert len(tasks) == 1
    await tasks.close()
    assert seen == ["cancelled"]
    assert len(tasks) == 0


async def test_nothing_starts_after_close() -> None:
    tasks = Tasks("owner")
    await tasks.close()

    async def work() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="owner is closed"):
        tasks.start(work(), name="late")


async def test_a_failure_is_kept_for_whoever_awaits(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = Tasks("owner")

    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await tasks.start(work(), name="failing")
    assert "owner.failing" in capsys.readouterr().out
    await tasks.close()


async def test_what_is_refused_on_purpose_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = Tasks("owner")

    async def work() -> None:
        try:
            raise OSError(28, "full")
        except OSError as error:
            raise StorageFull("The disk is full.") from error

    with pytest.raises(StorageFull):
        await tasks.start(work(), name="refused")
    (line,) = capsys.readouterr().out.splitlines()
    assert "owner.refused" in line
    assert "storage_full" in line
    await tasks.close()


async def test_drain_waits_for_what_ends_by_itself() -> None:
    tasks = Tasks("owner")
    done = tasks.start(asyncio.sleep(0.01, "ended"), name="short")
    await tasks.drain(5)
    assert done.result() == "ended"
    await tasks.close()


async def test_tasks_are_counted_by_who_owns_them() -> None:
    before = counted()[OTHERS]
    one, two = Tasks("one"), Tasks("two")
    for owner, name in ((one, "a"), (one, "b"), (two, "a")):
        owner.start(asyncio.sleep(60), name=name)
    stray = asyncio.ensure_future(asyncio.sleep(60))
    assert counted() == {"one": 2, "two": 1, OTHERS: before + 1}
    stray.cancel()
    await one.close()
    await asyncio.wait([stray])
    assert counted() == {"two": 1, OTHERS: before}
    await two.close()


def test_without_a_loop_there_are_none() -> None:
    assert counted() == {}
