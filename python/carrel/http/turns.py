"""Whose turn it is on the event loop: of a tenant's calls of methods one begins in a round of it.

A call works on the loop for a millisecond or so before it waits for something. One connection may have many of them in
hand, and a tenant many connections: begun together they would keep everybody else waiting for all of them. It knows
nothing of what a call does.
"""

import asyncio
import time
from collections import deque
from typing import Final

from carrel.ids import TenantId

LONG_SECONDS: Final = 0.005
"""A turn that took longer is followed by as long a rest of its tenant, where more of its calls wait."""
LARGE_BYTES: Final = 64 << 10
"""To read a body of more is a turn of its own."""


class Turns:
    """The lines of one gateway, one for each tenant that has begun a call in this round. Use it on the event loop."""

    def __init__(self) -> None:
        self._lines: dict[TenantId, deque[asyncio.Future[None]]] = {}
        self._began: dict[TenantId, float] = {}

    def __len__(self) -> int:
        return len(self._lines)

    async def begin(self, tenant: TenantId) -> None:
        """Wait for the tenant's turn; what comes then, up to where it waits itself, is it."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(tenant)
        if line is None:
            self._lines[tenant] = deque()
            loop.call_soon(self._ended, tenant)
            return
        turn = loop.create_future()
        line.append(turn)
        await turn

    def _ended(self, tenant: TenantId) -> None:
        took = time.monotonic() - self._began.pop(tenant, time.monotonic())
        if took > LONG_SECONDS and self._lines[tenant]:
            asyncio.get_running_loop().call_later(took, self._next, tenant)
        else:
            self._next(tenant)

    def _next(self, tenant: TenantId) -> None:
        """Give the turn to who waits longest. The three that are called soon are so one after the other."""
        loop, line = asyncio.get_running_loop(), self._lines[tenant]
        while line:
            turn = line.popleft()
            if not turn.done():
                loop.call_soon(self._start, tenant)
                turn.set_result(None)
                loop.call_soon(self._ended, tenant)
                return
        del self._lines[tenant]

    def _start(self, tenant: TenantId) -> None:
        self._began[tenant] = time.monotonic()
