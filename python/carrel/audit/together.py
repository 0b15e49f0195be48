"""What many want written at a time goes to the disk together, and each is told when its own is there."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


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
        """Return once it is written; raises what ``write`` did. What is cancelled before its turn is not written."""
        waiting = _Waiting(item, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            async with self._lock:
                if not waiting.kept.done():
                    # All that came while those before were synced go to the disk together.
                    batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                    await self._written(batch)
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            raise
        await waiting.kept

    async def _written(self, batch: Sequence[_Waiting[T]]) -> None:
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, [one.item for one in batch]))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        finally:
            _tell(batch, writing)


def _tell(batch: Sequence[_Waiting[T]], writing: "asyncio.Future[None]") -> None:
    """Tell those who wait how it went; who is not there any more is not told."""
    error = writing.exception()
    for one in batch:
        if one.kept.done():
            continue
        if error is None:
            one.kept.set_result(None)
        else:
            one.kept.set_exception(error)
            # Who waits raises it; where nobody does, it was raised by whoever wrote.
            one.kept.exception()
