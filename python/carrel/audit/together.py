"""What many want written at a time goes to the disk together, and each is told when its own is there."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


async def over(work: "asyncio.Future[T]") -> T:
    """What ``work`` comes to. Who is cancelled, however often, goes once it is over, and never while it runs."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled():
            # Who cancelled asks for no more of it; it was told where it happened.
            work.exception()
        raise cancelled
    return work.result()


async def in_thread(work: Callable[[], T]) -> T:
    """``work`` done in a thread, as `over` waits. No task: an end of the loop would cancel that with all others."""
    return await over(asyncio.get_running_loop().run_in_executor(None, work))


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[T]):
    """What is to be written, and whoever waits for that."""

    item: T
    kept: "asyncio.Future[None]"


class Together(Generic[T]):
    """``write`` is called in a thread, with ``most`` items at most, while ``lock`` is held: never twice at a time."""

    def __init__(self, write: Callable[[Sequence[T]], None], *, most: int, lock: asyncio.Lock) -> None:
        self._write = write
        self._most = most
        self._lock = lock
        self._waiting: list[_Waiting[T]] = []

    async def add(self, item: T) -> None:
        """Return once it is written; raises what ``write`` did. What is cancelled before its turn is not written.

        Who is cancelled in its turn, whoever writes it, goes once it is known whether it was written.
        """
        waiting = _Waiting(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with self._lock:
                if not waiting.kept.done():
                    # All that came while those before were synced go to the disk together.
                    batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                    await self._written(batch)
            await asyncio.shield(waiting.kept)
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                with suppress(Exception):
                    await over(waiting.kept)
            raise

    async def _written(self, batch: Sequence[_Waiting[T]]) -> None:
        items = [one.item for one in batch]
        try:
            writing = asyncio.get_running_loop().run_in_executor(None, lambda: self._write(items))
        except BaseException as error:
            # No thread can be begun: those whose turn it was wait for nothing more.
            _tell(batch, error)
            raise
        try:
            await over(writing)
        finally:
            _tell(batch, writing.exception())


def _tell(batch: Sequence[_Waiting[T]], error: BaseException | None) -> None:
    """Tell those who wait how it went; who is not there any more is not told."""
    for one in batch:
        if one.kept.done():
            continue
        if error is None:
            one.kept.set_result(None)
        else:
            one.kept.set_exception(error)
            # Who waits raises it; where nobody does, it was raised by whoever wrote.
            one.kept.exception()
