"""The only clock: wall time is aware UTC, intervals come from the monotonic clock."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, Protocol

SETTLED_SECONDS: Final = 1.0
"""What has been done for less says nothing yet of its pace."""


class Clock(Protocol):
    """What code that needs time takes; tests pass one that they move by hand."""

    def now(self) -> datetime:
        """The wall time, aware, in UTC. It may jump both ways: never subtract two of these for an interval."""
        ...

    def micros(self) -> int:
        """The wall time in microseconds since 1970: cheap, for what is stamped by the thousand."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        ...


class SystemClock:
    """The machine's clock."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def micros(self) -> int:
        return time.time_ns() // 1000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def remaining(done: int, total: int, spent: float) -> float | None:
    """Seconds until ``total`` is done at the pace of ``done`` in ``spent`` seconds; None while that says nothing."""
    if done <= 0 or total <= 0 or spent < SETTLED_SECONDS:
        return None
    return max(total - done, 0) * spent / done
