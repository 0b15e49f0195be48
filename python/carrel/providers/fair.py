"""The calls that are under way at one provider, shared out fairly: who has the fewest goes first.

A tenant may have so many as `SHARE` times the places that are free (dynamic thresholds, Choudhury and Hahne, 1998): one
alone has three quarters of them, several have less each, and there is always a place for one who has none. So a
tenant that floods waits in its own line, and nobody behind it.
"""

import asyncio
from collections import deque
from typing import Final

from carrel.errors import RateLimited, UpstreamTimeout
from carrel.ids import TenantId

SHARE: Final = 3
MOST_WAITING: Final = 1_000
"""Calls of one tenant that wait at a time."""


class FairQueue:
    """The places at one provider; ``limit`` may be changed at any time."""

    __slots__ = ("_counts", "_waiting", "limit", "running")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self._counts: dict[TenantId, int] = {}
        self._waiting: dict[TenantId, deque[asyncio.Future[None]]] = {}

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return sum(map(len, self._waiting.values()))

    def has_room(self, tenant: TenantId) -> bool:
        """Whether there is a place for ``tenant`` at once."""
        return tenant not in self._waiting and self._may(tenant)

    def enter_now(self, tenant: TenantId) -> bool:
        """Take a place where there is one for ``tenant`` at once."""
        has = self._counts.get(tenant, 0)
        if tenant in self._waiting or has >= SHARE * (self.limit - self.running):
            return False
        self.running += 1
        self._counts[tenant] = has + 1
        return True

    async def enter(self, tenant: TenantId, *, provider: str, seconds: float) -> None:
        """Take a place, waiting for it up to ``seconds``; raises UpstreamTimeout, RateLimited."""
        if self.enter_now(tenant):
            return
        line = self._waiting.setdefault(tenant, deque())
        if len(line) >= MOST_WAITING:
            raise RateLimited(
                f"{MOST_WAITING} of your calls wait for provider {provider!r} already; make fewer at a time.",
                retry_after=1.0,
            )
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException as error:
            self._gave_up(tenant, line, place)
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(
                    f"Provider {provider!r} is busy: its {self.limit} connections are all in use."
                ) from None
            raise

    def _gave_up(self, tenant: TenantId, line: "deque[asyncio.Future[None]]", place: "asyncio.Future[None]") -> None:
        if place in line:
            line.remove(place)
            if not line:
                del self._waiting[tenant]
        elif place.done() and not place.cancelled():
            # The place was given in the moment in which nobody wanted it any more.
            self.leave(tenant)

    def leave(self, tenant: TenantId) -> None:
        """Give a place back."""
        self.running -= 1
        count = self._counts[tenant] - 1
        if count:
            self._counts[tenant] = count
        else:
            del self._counts[tenant]
        if self._waiting:
            self._wake()

    def _may(self, tenant: TenantId) -> bool:
        return self._counts.get(tenant, 0) < SHARE * (self.limit - self.running)

    def _take(self, tenant: TenantId) -> None:
        self.running += 1
        self._counts[tenant] = self._counts.get(tenant, 0) + 1

    def _wake(self) -> None:
        """Give free places to who has the fewest, and of those to who waits longest."""
        while self._waiting:
            tenant = min(self._waiting, key=lambda one: self._counts.get(one, 0))
            if not self._may(tenant):
                return
            line = self._waiting.pop(tenant)
            place = line.popleft()
            if line:
                self._waiting[tenant] = line
            if not place.done():
                self._take(tenant)
                place.set_result(None)
