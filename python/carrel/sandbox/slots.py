"""Who may run now: so many runs of one tenant at a time, so many on the machine, in fair shares where it is full.

A place goes to the waiting tenant that has the smallest part of the machine for its weight; between equals to the one
that was given a place longest ago. So a tenant with two hundred commands that wait holds up nobody who has one. Within
a tenant the first to come is the first to run.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from carrel.errors import SandboxBusy
from carrel.ids import TenantId

WEIGHT: Final = 100
QUEUED: Final = 256


@dataclass(eq=False)
class _Waiting:
    """One that wants to run: the most of its tenant's at a time, and what is done when it may."""

    most: int
    place: "asyncio.Future[None]"


@dataclass(eq=False)
class _Share:
    """What one tenant has of the machine. ``served`` is the turn in which it was last given a place."""

    weight: int = WEIGHT
    running: int = 0
    served: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)

    @property
    def at_its_limit(self) -> bool:
        """Whether it may run no more, however much room there is; of one that waits."""
        return self.running >= self.waiting[0].most

    @property
    def rank(self) -> tuple[float, int]:
        """Who is first: the smaller."""
        return self.running / self.weight, self.served


class Slots:
    """Places to run in. ``machine`` is the most at a time of all tenants together."""

    def __init__(self, machine: int) -> None:
        self._machine = machine
        self._running = 0
        self._turn = 0
        self._shares: dict[TenantId, _Share] = {}

    @asynccontextmanager
    async def taken(
        self, tenant: TenantId, most: int, *, wait: float, weight: int = WEIGHT, queued: int = QUEUED
    ) -> AsyncIterator[None]:
        """Hold a place; raises SandboxBusy where none is free within ``wait`` seconds, or ``queued`` wait already."""
        share = self._shares.setdefault(tenant, _Share())
        share.weight = weight
        one = _Waiting(most, asyncio.get_running_loop().create_future())
        share.waiting.append(one)
        self._hand_out()
        if not one.place.done() and len(share.waiting) > queued:
            share.waiting.remove(one)
            self._forget(tenant, share)
            raise SandboxBusy(
                f"{queued} commands of this tenant wait already (sandbox.queued). Try again when some have ended."
            )
        try:
            async with asyncio.timeout(wait):
                await one.place
        except BaseException as error:
            why = self._why_not(share)
            self._give_up(tenant, share, one)
            if isinstance(error, TimeoutError):
                raise SandboxBusy(f"{why}, and none ended within {wait:g} s. Try again later.") from None
            raise
        try:
            yield
        finally:
            self._leave(tenant, share)

    def _give_up(self, tenant: TenantId, share: _Share, one: _Waiting) -> None:
        """Wait no more; a place that was given meanwhile goes to the next."""
        if one.place.done() and not one.place.cancelled():
            self._leave(tenant, share)
            return
        if one in share.waiting:
            share.waiting.remove(one)
        self._forget(tenant, share)
        self._hand_out()

    def _leave(self, tenant: TenantId, share: _Share) -> None:
        share.running -= 1
        self._running -= 1
        self._forget(tenant, share)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._running < self._machine:
            able = [share for share in self._shares.values() if share.waiting and not share.at_its_limit]
            if not able:
                return
            share = min(able, key=lambda share: share.rank)
            one = share.waiting.popleft()
            if one.place.done():
                continue
            self._turn += 1
            share.served = self._turn
            share.running += 1
            self._running += 1
            one.place.set_result(None)

    def _why_not(self, share: _Share) -> str:
        if share.waiting and share.at_its_limit:
            return f"{share.running} commands of this tenant run already (sandbox.concurrent)"
        return "This machine runs as many commands as it may"

    def _forget(self, tenant: TenantId, share: _Share) -> None:
        if not share.running and not share.waiting and self._shares.get(tenant) is share:
            del self._shares[tenant]
