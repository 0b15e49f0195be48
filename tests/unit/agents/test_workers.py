"""Work that began is waited for, whoever is cancelled."""

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from carrel.agents.workers import Workers, to_the_end
from carrel.errors import NotFound
from carrel.tasks import Tasks
from tests.fakes.patience import PATIENCE


async def test_a_result_and_an_error_come_back() -> None:
    workers = Workers(1)
    assert await workers.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda: 1 // 0)
    workers.close()


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_caller_ends_after_the_work(cancels: int) -> None:
    workers, release, done = Workers(1), threading.Event(), []

    def work() -> None:
        release.wait(PATIENCE)
        done.append(True)

    task = asyncio.ensure_future(workers.run(work))
    for _ in range(cancels):
        await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
    workers.close()


async def test_an_expected_error_is_the_callers_and_no_failed_task() -> None:
    async def work() -> None:
        raise NotFound("nothing")

    tasks = Tasks("t")
    with capture_logs() as logs, pytest.raises(NotFound):
        await to_the_end(tasks, work(), name="w")
    assert logs == []
    await tasks.close()


async def test_a_coroutine_is_run_to_its_end() -> None:
    tasks, release, done = Tasks("t"), asyncio.Event(), []

    async def work() -> None:
        await release.wait()
        done.append(True)

    task = asyncio.ensure_future(to_the_end(tasks, work(), name="w"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
    await tasks.close()
