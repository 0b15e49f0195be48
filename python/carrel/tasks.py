"""The only way to start a task: named, owned, and cancelled by whom started it."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

import structlog

from carrel.errors import CarrelError

T = TypeVar("T")
_log = structlog.get_logger(__name__)
OTHERS: Final = "_other"
"""Who owns tasks that nothing of ours started, as those in which a library serves a connection."""


def counted() -> Mapping[str, int]:
    """How many tasks of the running loop are not done, by owner; nothing where no loop runs."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return {}
    owners = [task.get_name().partition(".") for task in tasks]
    return Counter(owner if dot else OTHERS for owner, dot, _ in owners)


class Tasks:
    """The tasks of one owner. A failure in one is logged with its name at once, and kept for whoever awaits it."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run ``work`` as a task named ``owner.name``; after ``close`` this is an error."""
        if self._closed:
            work.close()
            raise RuntimeError(f"{self._owner} is closed: {name} not started")
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}.{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, CarrelError) and error.code != CarrelError.code:
            # Raised on purpose, and told to whoever asked: where it was raised says nothing more.
            _log.warning("task failed", task=task.get_name(), code=error.code, error=error.message)
        elif error is not None:
            _log.error("task failed", task=task.get_name(), exc_info=error)

    async def drain(self, seconds: float) -> None:
        """Wait up to ``seconds`` for what runs to end by itself."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)

    async def close(self, *, grace: float = 2.0) -> None:
        """Cancel what still runs and wait up to ``grace`` seconds for it."""
        self._closed = True
        running = set(self._tasks)
        for task in running:
            task.cancel()
        if running:
            _, stuck = await asyncio.wait(running, timeout=grace)
            for task in stuck:
                _log.error("task did not stop", task=task.get_name())
