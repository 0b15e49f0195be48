"""Who may run now: so many runs of one tenant at a time, so many on the machine, in the order they came.

A tenant at its own limit does not stand in another's way: it takes a place on the machine only when it has one of its
own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from carrel.errors import SandboxUnavailable
from carrel.ids import TenantId


@dataclass
class _Queue:
    running: int = 0
    waiting: list["asyncio.Future[None]"] = field(default_factory=list)


class Slots:
    """Places to run in. ``machine`` is the most at a time of all tenants together."""

    def __init__(self, machine: int) -> None:
        self._machine = asyncio.Semaphore(machine)
        self._tenants: dict[TenantId, _Queue] = {}

    @asynccontextmanager
    async def taken(self, tenant: TenantId, most: int, *, wait: float) -> AsyncIterator[None]:
        """Hold a place; raises SandboxUnavailable where none is free within ``wait`` seconds."""
        queue = self._tenants.setdefault(tenant, _Queue())
        try:
            async with asyncio.timeout(wait):
                await self._enter(queue, most)
        except TimeoutError:
            self._forget(tenant, queue)
            raise SandboxUnavailable(
                f"{most} commands of this tenant run already (sandbox.concurrent), and none ended within {wait:g} s. "
                "Try again later."
            ) from None
        except BaseException:
            self._forget(tenant, queue)
            raise
        try:
            try:
                async with asyncio.timeout(wait):
                    await self._machine.acquire()
            except TimeoutError:
                raise SandboxUnavailable(
                    f"This machine runs as many commands as it may, and none ended within {wait:g} s. Try again later."
                ) from None
            try:
                yield
            finally:
                self._machine.release()
        finally:
            self._leave(queue)
            self._forget(tenant, queue)

    async def _enter(self, queue: _Queue, most: int) -> None:
        if queue.running < most and not queue.waiting:
            queue.running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(queue)
            elif place in queue.waiting:
                queue.waiting.remove(place)
            raise

    def _leave(self, queue: _Queue) -> None:
        """Hand the place to the next who waits, or give it up."""
        while queue.waiting:
            place = queue.waiting.pop(0)
            if not place.done():
                place.set_result(None)
                return
        queue.running -= 1

    def _forget(self, tenant: TenantId, queue: _Queue) -> None:
        if not queue.running and not queue.waiting and self._tenants.get(tenant) is queue:
            del self._tenants[tenant]
