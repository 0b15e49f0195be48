"""The thread that puts the journal on the disk, one group after the other.

A thread of its own with a plain queue: an executor's futures would cost more than all else of a group.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

Done = Callable[[Exception | None], None]
Group = tuple[Sequence[int], asyncio.AbstractEventLoop, Done]


class Committer:
    """Calls ``sync`` on file descriptors, off the event loop, and says on the loop how it went."""

    def __init__(self, sync: Callable[[int], None]) -> None:
        self._sync = sync
        self._work: queue.SimpleQueue[Group | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def commit(self, fds: Sequence[int], done: Done) -> None:
        """Sync ``fds``, then call ``done`` on the loop with the error, None where all went well."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="carrel-journal-commit", daemon=True)
            self._thread.start()
        self._work.put((fds, asyncio.get_running_loop(), done))

    def close(self) -> None:
        """Finish what was given, and end the thread. Blocks."""
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            fds, loop, done = item
            error: Exception | None = None
            try:
                for fd in fds:
                    self._sync(fd)
            except Exception as caught:  # noqa: BLE001 - the root of a thread; it is handed to who waits
                error = caught
            try:
                loop.call_soon_threadsafe(done, error)
            except RuntimeError:
                # The loop is gone, and with it whoever waited.
                return
