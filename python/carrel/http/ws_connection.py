"""One WebSocket: frames in are calls, frames out are answers and events, and neither side can flood the other.

Calls of one connection run side by side up to a number; while so many run, nothing more is read. What waits to be sent
is bounded: a reader that falls behind is dropped, with the reason in the close frame.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from aiohttp import WSMessage, WSMsgType, web

from carrel.errors import CarrelError
from carrel.events.hub import Event, Hub, Subscription
from carrel.http.auth import Caller, TenantCaller
from carrel.http.exchange import Exchange
from carrel.http.rpc.registry import Context
from carrel.http.rpc_endpoint import answered
from carrel.ids import new_request_id
from carrel.tenancy.handle import Tenant
from carrel.wire import jsonrpc

POLICY: Final = 1008
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
TRY_LATER: Final = 1013
_REASONS: Final = {"revoked": POLICY, "shutdown": GOING_AWAY, "slow_reader": TRY_LATER, "text_only": UNSUPPORTED}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks, and for which tenant. An operator has all scopes and no token's name."""

    caller: Caller
    tenant: Tenant
    scopes: frozenset[str]
    token_name: str | None

    @classmethod
    def of(cls, caller: TenantCaller) -> "Speaker":
        """A tenant that speaks for itself."""
        return cls(caller, caller.tenant, frozenset(caller.record.scopes), caller.record.name)

    def now(self, exchange: Exchange) -> "Speaker | None":
        """The same, as what is declared and issued says it now; None where they may not speak any more."""
        snapshot = exchange.services.directory.current
        if exchange.live.is_over is not None and exchange.live.is_over():
            return None
        if isinstance(self.caller, TenantCaller):
            known = exchange.authenticator.known(self.caller.credential, snapshot)
            served = isinstance(known, TenantCaller) and not known.tenant.suspended
            return Speaker.of(known) if served and isinstance(known, TenantCaller) else None
        tenant = snapshot.tenants.get(self.tenant.id)
        if tenant is None or tenant.suspended or not exchange.authenticator.still_valid(self.caller):
            return None
        return (
            replace(self, tenant=tenant.as_member(self.tenant.member))
            if tenant.has_member(self.tenant.member)
            else None
        )


class Connection:
    """A connection of ``speaker``'s over ``socket``, which is prepared. `serve` it to its end."""

    def __init__(self, exchange: Exchange, speaker: Speaker, socket: web.WebSocketResponse) -> None:
        self.id = exchange.request_id
        self._exchange = exchange
        self._speaker = speaker
        self._socket = socket
        self._waiting: deque[str] = deque()
        self._size = 0
        self._more = asyncio.Event()
        self._slots = asyncio.Semaphore(exchange.limits.calls_per_socket)
        self._calls: set[asyncio.Task[None]] = set()
        self._reason = ""
        self._ended = asyncio.Event()
        self._at_end: list[Callable[[], None]] = []

    @property
    def closed(self) -> bool:
        """Whether nothing can be said to the other side any more."""
        return self._ended.is_set() or self._socket.closed

    # --- out ---

    def welcome(
        self, hub: Hub, subscription: Subscription | None, *, epoch: str | None = None, after: int | None = None
    ) -> None:
        """Say how the connection stands, and listen; what was missed and is still known comes right behind."""
        held, self._waiting = self._waiting, deque()
        seq, missed = 0, False
        if subscription is not None:
            resumed = hub.subscribe(self._speaker.tenant, subscription, epoch=epoch, after=after)
            seq, missed = resumed.seq, resumed.missed
        replayed, self._waiting = self._waiting, held
        limits = self._exchange.limits
        self.notify(
            "hello",
            {
                "connectionId": self.id, "epoch": hub.epoch, "seq": seq, "missed": missed,
                "version": self._exchange.services.version, "pingSeconds": limits.ping_seconds,
                "maxFrameBytes": limits.frame_bytes,
            },
        )  # fmt: skip
        self._waiting.extend(replayed)

    def deliver(self, event: Event) -> None:
        """Send an event; see `Subscription`."""
        self._send(event.text)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification that is for this connection alone."""
        self._send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}, separators=(",", ":")))

    def on_close(self, call: Callable[[], None]) -> None:
        """Call back when the connection has ended; at once where it has."""
        if self.closed:
            call()
        else:
            self._at_end.append(call)

    def _send(self, text: str) -> None:
        if self._ended.is_set():
            return
        self._waiting.append(text)
        self._size += len(text)
        self._more.set()
        limits = self._exchange.limits
        if len(self._waiting) > limits.waiting_frames or self._size > limits.waiting_bytes:
            self._end("slow_reader")

    def _end(self, reason: str) -> None:
        if not self._ended.is_set():
            self._reason = reason
            self._ended.set()

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                text = self._waiting.popleft()
                self._size -= len(text)
                await self._socket.send_str(text)

    # --- in ---

    async def serve(self) -> None:
        """Read and answer until either side ends it."""
        tasks = self._exchange.tasks
        reader = tasks.start(self._read(), name=f"ws-read {self.id}")
        writer = tasks.start(self._quietly(self._write()), name=f"ws-write {self.id}")
        ended = tasks.start(_waited(self._ended), name=f"ws-end {self.id}")
        cancelled = False
        try:
            await asyncio.wait({reader, writer, ended}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            cancelled = not self._exchange.live.ended
            if not cancelled:
                self._reason = self._exchange.live.ended
        self._ended.set()
        for call in self._at_end:
            call()
        for task in (reader, writer, ended, *self._calls):
            task.cancel()
        await asyncio.wait({reader, writer, ended, *self._calls})
        await self._close()
        if cancelled:
            raise asyncio.CancelledError

    async def _close(self) -> None:
        if self._reason:
            _log.info("websocket ended by the gateway", tenant=self._speaker.tenant.id, reason=self._reason)
        if self._reason in ("revoked", "shutdown") and self._waiting:
            # The answer to `tenants.rotate` itself, say.
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(self._exchange.limits.close_seconds / 2):
                    while self._waiting:
                        await self._socket.send_str(self._waiting.popleft())
        code = _REASONS.get(self._reason, 1000)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(self._exchange.limits.close_seconds):
                await self._socket.close(code=code, message=self._reason.encode())
        transport = self._exchange.request.transport
        if self._reason and transport is not None:
            transport.close() if self._reason != "slow_reader" else transport.abort()

    async def _read(self) -> None:
        async for message in self._socket:
            if self._ended.is_set():
                return
            if message.type is not WSMsgType.TEXT:
                self._end("text_only")
                return
            speaker = self._speaker.now(self._exchange)
            if speaker is None:
                self._end("revoked")
                return
            await self._slots.acquire()
            call = self._exchange.tasks.start(self._quietly(self._answer(speaker, message)), name=f"ws-call {self.id}")
            self._calls.add(call)
            call.add_done_callback(self._over)

    def _over(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._slots.release()

    async def _answer(self, speaker: Speaker, message: WSMessage) -> None:
        exchange = self._exchange
        envelope = jsonrpc.parse(str(message.data).encode("utf-8", "surrogatepass"))
        context = Context(
            exchange.services, speaker.tenant, exchange.services.directory.current, new_request_id(),
            speaker.caller.label, speaker.scopes, speaker.token_name, peer=self,
            allowed=lambda: exchange.authenticator.still_valid(speaker.caller),
        )  # fmt: skip
        answers = await answered(context, envelope, admitted=False)
        if answers:
            self._send(json.dumps(answers if envelope.batch else answers[0], separators=(",", ":")))

    async def _quietly(self, work: Any) -> None:
        """Whatever fails in here ends this connection alone."""
        try:
            await work
        except ConnectionError:
            self._end("")
        except CarrelError as error:
            _log.warning("websocket failed", tenant=self._speaker.tenant.id, code=error.code)
            self._end("")


async def _waited(event: asyncio.Event) -> None:
    await event.wait()
