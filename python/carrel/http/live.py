"""Requests in flight: their credentials asked again, deadlines held, stalled readers cut off, drains waited for."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog
from aiohttp import web

from carrel.clock import Clock
from carrel.http.auth import Caller
from carrel.http.services import Limits
from carrel.ids import RequestId

_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Live:
    """A request in flight. ``ended`` says why the gateway cut it off itself; an ``endless`` one has no deadline.

    ``is_over`` is asked beside the credential, where a browser's session is what let it in.
    ``refused`` is the status of a refusal that is being sent: whoever has it may go before the connection is closed.
    """

    task: asyncio.Task[object]
    request_id: RequestId
    began: float
    connection: web.RequestHandler | None = None
    caller: Caller | None = None
    ended: str = ""
    refused: int = 0
    endless: bool = False
    is_over: Callable[[], bool] | None = None


@dataclass(slots=True)
class _Stall:
    size: int
    since: float


@dataclass(slots=True)
class LiveRequests:
    """All requests in flight, and the one round that looks after them."""

    clock: Clock
    limits: Limits
    still_valid: Callable[[Caller], bool]
    _live: set[Live] = field(default_factory=set)
    _stalls: dict[asyncio.Transport, _Stall] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._live)

    def enter(
        self, request_id: RequestId, task: asyncio.Task[object], connection: web.RequestHandler | None = None
    ) -> Live:
        """Note a request that begins; it is handled in ``task`` and came by ``connection``."""
        live = Live(task, request_id, self.clock.monotonic(), connection)
        self._live.add(live)
        return live

    def leave(self, live: Live) -> None:
        """Note that it ended."""
        self._live.discard(live)

    def close_idle(self, connections: Iterable[web.RequestHandler]) -> None:
        """Close connections without a request. One whose request still arrives must go on reading."""
        busy = {live.connection for live in self._live}
        for connection in connections:
            if connection not in busy:
                connection.force_close()

    async def watch(self, connections: Callable[[], Iterable[web.RequestHandler]]) -> None:
        """Look after what lives, round after round, until cancelled."""
        while True:
            await self.clock.sleep(self.limits.recheck_seconds)
            self.recheck()
            self.cut_stalled(connections())

    def recheck(self) -> None:
        """End what is past its deadline, and what runs on a credential that no longer holds."""
        now = self.clock.monotonic()
        verdicts: dict[object, bool] = {}
        for live in list(self._live):
            if now - live.began < self.limits.recheck_seconds / 2:
                continue
            if now - live.began > self.limits.request_seconds and not live.endless:
                self._end(live, "deadline")
            elif live.is_over is not None and live.is_over():
                self._end(live, "revoked")
            elif live.caller is not None:
                known = verdicts.get(live.caller.rights)
                if known is None:
                    known = verdicts[live.caller.rights] = self.still_valid(live.caller)
                if not known:
                    self._end(live, "revoked")

    def cut_stalled(self, connections: Iterable[web.RequestHandler]) -> None:
        """Drop connections whose reader took nothing for too long: what waits to be written there is held in memory."""
        now = self.clock.monotonic()
        stalls: dict[asyncio.Transport, _Stall] = {}
        for connection in connections:
            transport = connection.transport
            size = transport.get_write_buffer_size() if transport is not None else 0
            if transport is None or not size:
                continue
            stall = self._stalls.get(transport)
            if stall is None or stall.size != size:
                stall = _Stall(size, now)
            elif now - stall.since >= self.limits.write_stall_seconds:
                _log.info("connection cut: its reader stalled", unsent_bytes=size)
                transport.abort()
                continue
            stalls[transport] = stall
        self._stalls = stalls

    async def drained(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for all to end by themselves; whether they did."""
        tasks = {live.task for live in self._live}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        return not self._live

    def end_endless(self, reason: str) -> None:
        """Cancel what would not end by itself."""
        for live in list(self._live):
            if live.endless:
                self._end(live, reason)

    def end_all(self, reason: str) -> None:
        """Cancel everything that is left."""
        for live in list(self._live):
            self._end(live, reason)

    @staticmethod
    def _end(live: Live, reason: str) -> None:
        if not live.ended:
            live.ended = reason
            _log.info("request ended by the gateway", request_id=live.request_id, reason=reason)
            live.task.cancel()
