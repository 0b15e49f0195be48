"""One at a time for each key, in the order of coming, with a bound on how many wait and for how long."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from carrel.errors import RateLimited, Unavailable

MAX_WAITING: Final = 32
WAIT_SECONDS: Final = 900.0


@dataclass(slots=True)
class _Gate:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    inside: int = 0


class Turnstile:
    """Lets one through for each key; ``what`` names the thing in messages."""

    def __init__(self, what: str, *, max_waiting: int = MAX_WAITING, wait_seconds: float = WAIT_SECONDS) -> None:
        self._what = what
        self._max_waiting = max_waiting
        self._wait_seconds = wait_seconds
        self._gates: dict[Hashable, _Gate] = {}

    def __len__(self) -> int:
        return len(self._gates)

    def inside(self) -> Iterator[Hashable]:
        """The keys for which somebody is inside or waits."""
        return iter(list(self._gates))

    @asynccontextmanager
    async def passing(self, key: Hashable) -> AsyncIterator[None]:
        """Wait for the turn of the caller; raises RateLimited where too many wait, Unavailable after too long."""
        gate = self._gates.setdefault(key, _Gate())
        if gate.inside > self._max_waiting:
            raise RateLimited(f"{self._max_waiting} requests wait for {self._what} already.", retry_after=1.0)
        gate.inside += 1
        try:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await gate.lock.acquire()
            except TimeoutError:
                raise Unavailable(f"{self._what.capitalize()} was busy for {self._wait_seconds:g} s.") from None
            try:
                yield
            finally:
                gate.lock.release()
        finally:
            gate.inside -= 1
            if not gate.inside:
                del self._gates[key]
