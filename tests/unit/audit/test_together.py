import asyncio
import threading
from collections.abc import Sequence

import pytest

from carrel.audit.together import Together


class Written:
    """What is written is a list, and waits until it may."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may = threading.Event()
        self.wrong: OSError | None = None

    def __call__(self, items: Sequence[int]) -> None:
        assert self.may.wait(60)
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


async def test_each_is_told_what_went_wrong() -> None:
    written = Written()
    written.wrong = OSError("no")
    written.may.set()
    together = Together[int](written, most=3, lock=asyncio.Lock())
    told = await asyncio.gather(together.add(1), together.add(2), return_exceptions=True)
    assert list(told) == [written.wrong, written.wrong]


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
