import asyncio
import threading
from collections.abc import Sequence

import pytest

from carrel.audit.together import Together
from tests.fakes.patience import PATIENCE


class Written:
    """What is written is a list, and waits until it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.may = threading.Event(), threading.Event()
        self.now = self.most = 0
        self.wrong: OSError | None = None

    def __call__(self, items: Sequence[int]) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun.set()
        assert self.may.wait(60)
        self.now -= 1
        if self.wrong is not None:
            raise self.wrong
        self.batches.append(list(items))


async def test_what_comes_meanwhile_is_written_together_up_to_the_most() -> None:
    written = Written()
    together = Together[int](written, most=3, lock=asyncio.Lock())
    adding = [asyncio.create_task(together.add(number)) for number in range(5)]
    await asyncio.sleep(0)
    written.may.set()
    await asyncio.gather(*adding)
    assert [number for batch in written.batches for number in batch] == list(range(5))
    assert max(len(batch) for batch in written.batches) == 3


async def test_an_end_of_the_loop_that_cancels_all_leaves_nobody_waiting() -> None:
    written = Written()
    lock = asyncio.Lock()
    together = Together[int](written, most=3, lock=lock)
    before = asyncio.all_tasks()
    async with lock:
        adding = [asyncio.create_task(together.add(number)) for number in range(3)]
        await asyncio.sleep(0)
    await asyncio.to_thread(written.begun.wait)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.sleep(0)
    written.may.set()
    _, waiting = await asyncio.wait(adding, timeout=PATIENCE)
    assert not waiting
    assert all(one.cancelled() for one in adding)
    assert written.batches == [[0, 1, 2]]


async def test_each_is_told_what_went_wrong() -> None:
    written = Written()
    written.wrong = OSError("no")
    written.may.set()
    together = Together[int](written, most=3, lock=asyncio.Lock())
    told = await asyncio.gather(together.add(1), together.add(2), return_exceptions=True)
    assert list(told) == [written.wrong, written.wrong]


async def test_where_no_thread_can_be_begun_each_is_told_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    written, lock = Written(), asyncio.Lock()
    together = Together[int](written, most=3, lock=lock)
    none = RuntimeError("can't start new thread")

    def refused(*_: object) -> None:
        monkeypatch.undo()
        raise none

    async with lock:
        adding = [asyncio.create_task(together.add(number)) for number in range(3)]
        await asyncio.sleep(0)
    monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refused)
    _, waiting = await asyncio.wait(adding, timeout=PATIENCE)
    assert not waiting
    assert [one.exception() for one in adding] == [none] * 3


async def test_what_is_cancelled_before_its_turn_is_not_written() -> None:
    written = Written()
    together = Together[int](written, most=1, lock=asyncio.Lock())
    first, second = asyncio.create_task(together.add(1)), asyncio.create_task(together.add(2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    written.may.set()
    await first
    await together.add(3)
    assert written.batches == [[1], [3]]


async def test_who_is_cancelled_in_its_turn_goes_once_it_is_written() -> None:
    written = Written()
    together = Together[int](written, most=1, lock=asyncio.Lock())
    adding = asyncio.create_task(together.add(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    adding.cancel()
    await asyncio.sleep(0)
    assert not adding.done()
    written.may.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert written.batches == [[1]]


async def begun_together(
    together: Together[int], written: Written, lock: asyncio.Lock, *items: int
) -> list["asyncio.Task[None]"]:
    """Tasks that add ``items``, the first of which writes for those that came before it had its turn."""
    async with lock:
        adding = [asyncio.create_task(together.add(item)) for item in items]
        for _ in range(3):
            await asyncio.sleep(0)
    while not written.begun.is_set():
        await asyncio.sleep(0)
    return adding


async def test_who_is_cancelled_while_another_writes_it_goes_once_it_is_written() -> None:
    written, lock = Written(), asyncio.Lock()
    together = Together[int](written, most=2, lock=lock)
    first, second = await begun_together(together, written, lock, 1, 2)
    for _ in range(3):
        second.cancel()
        await asyncio.sleep(0)
    assert not second.done()
    written.may.set()
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    assert written.batches == [[1, 2]]


async def test_who_is_cancelled_twice_leaves_nobody_waiting_and_lets_no_other_write() -> None:
    written, lock = Written(), asyncio.Lock()
    together = Together[int](written, most=2, lock=lock)
    adding = await begun_together(together, written, lock, 0, 1, 2)
    for _ in range(3):
        adding[0].cancel()
        await asyncio.sleep(0)
    assert lock.locked()
    assert not any(one.done() for one in adding)
    written.may.set()
    told = await asyncio.gather(*adding, return_exceptions=True)
    assert [type(one) for one in told] == [asyncio.CancelledError, type(None), type(None)]
    assert (written.batches, written.most) == ([[0, 1], [2]], 1)


async def test_who_is_cancelled_where_it_cannot_be_written_goes_and_the_others_are_told() -> None:
    written, lock = Written(), asyncio.Lock()
    written.wrong = OSError("no")
    together = Together[int](written, most=2, lock=lock)
    first, second = await begun_together(together, written, lock, 1, 2)
    second.cancel()
    written.may.set()
    told = await asyncio.gather(first, second, return_exceptions=True)
    assert (told[0], type(told[1])) == (written.wrong, asyncio.CancelledError)
