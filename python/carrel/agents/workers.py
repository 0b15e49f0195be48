"""Threads for what blocks: a session's files and the file tools. Work that has begun is always waited for."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from carrel.errors import CarrelError
from carrel.tasks import Tasks

T = TypeVar("T")
THREADS: Final = 8
END_SECONDS: Final = 60.0


class Workers:
    """A few threads of the agents' own, so that long work elsewhere never holds up a transcript."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="carrel-agents")

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread. Where the caller is cancelled meanwhile, that is told after the work's end."""
        return await _end_of(asyncio.get_running_loop().run_in_executor(self._pool, work))

    def close(self) -> None:
        """Stop the threads, after what they do now."""
        self._pool.shutdown(wait=True)


async def to_the_end(tasks: Tasks, work: Coroutine[Any, Any, T], *, name: str) -> T:
    """Run ``work`` as a task that a cancellation of the caller does not reach; the caller ends after it.

    A CarrelError is the caller's to handle, and no failure of the task.
    """
    ended = await _end_of(tasks.start(_outcome(work), name=name))
    if isinstance(ended, _Failed):
        raise ended.error
    return ended


@dataclass(frozen=True, slots=True)
class _Failed:
    error: CarrelError


async def _outcome(work: Coroutine[Any, Any, T]) -> T | _Failed:
    try:
        return await work
    except CarrelError as error:
        return _Failed(error)


async def _end_of(future: "asyncio.Future[T]") -> T:
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _settled(future)
        raise


async def _settled(future: "asyncio.Future[Any]") -> None:
    """Wait until ``future`` is done, whatever else is cancelled meanwhile, for a bounded time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + END_SECONDS
    while not future.done() and loop.time() < deadline:
        try:
            await asyncio.wait([future], timeout=deadline - loop.time())
        except asyncio.CancelledError:
            continue
