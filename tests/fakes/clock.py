"""A clock that moves only when a test says so."""

import asyncio
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at 2026-03-01 12:00 UTC. ``sleep`` returns once ``advance`` or ``jump`` has passed its end."""

    def __init__(self, start: datetime | None = None) -> None:
        self._now = start or datetime(2026, 3, 1, 12, tzinfo=UTC)
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def micros(self) -> int:
        return (self._now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, waiter))
        await waiter

    @property
    def sleepers(self) -> int:
        """How many sleep."""
        return len(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let time pass: both clocks move, and who slept long enough wakes."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        for entry in [s for s in self._sleepers if s[0] <= self._monotonic]:
            self._sleepers.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def jump(self, seconds: float) -> None:
        """Set the wall clock only, forwards or back, as NTP or an operator would."""
        self._now += timedelta(seconds=seconds)
