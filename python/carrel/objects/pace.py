"""A bound on bytes a second, shared by threads, and the one way to stop what waits for it."""

import threading
import time
from collections.abc import Callable
from typing import Final

from carrel.errors import CarrelError

_MOST_WAIT: Final = 0.25


class Cancelled(CarrelError):
    """Whoever asked for the work wants it no more; what was done of it is kept for the next time."""

    code = "cancelled"


class Pace:
    """``bytes_per_second`` over all that call `spend`; None bounds nothing. ``stop`` ends all waiting."""

    def __init__(
        self,
        bytes_per_second: int | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        stop: threading.Event | None = None,
    ) -> None:
        self._rate = bytes_per_second
        self._now = now
        self._stop = stop if stop is not None else threading.Event()
        self._free_at = 0.0
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Make every thread that comes by here end with Cancelled."""
        self._stop.set()

    def check(self) -> None:
        """Raise Cancelled where it was stopped."""
        if self._stop.is_set():
            raise Cancelled("The work was stopped; what was sent is kept, and the next time goes on from there.")

    def sleep(self, seconds: float) -> None:
        """Wait, unless stopped."""
        self._stop.wait(max(seconds, 0.0))
        self.check()

    def spend(self, count: int) -> None:
        """Wait until ``count`` bytes may pass."""
        self.check()
        if self._rate is None:
            return
        with self._lock:
            begin = max(self._now(), self._free_at)
            self._free_at = begin + count / self._rate
        while (left := begin - self._now()) > 0:
            self.sleep(min(left, _MOST_WAIT))
