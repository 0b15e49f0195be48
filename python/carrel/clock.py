"""The only clock: wall time is aware UTC, intervals come from the monotonic clock."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


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
