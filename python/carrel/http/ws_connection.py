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

from carrel.devices.book import device_of
from carrel.errors import CarrelError, InvalidRequest
from carrel.events.hub import Event, Hub, Subscription
from carrel.http.auth import Caller, TenantCaller
from carrel.http.errors import rpc_error
from carrel.http.exchange import Exchange
from carrel.http.rpc.late import METHODS
from carrel.http.rpc.registry import Context
from carrel.http.rpc_endpoint import answered
from carrel.http.turns import LARGE_BYTES
from carrel.http.ws_manner import FrameManner, JsonRpcManner, Manner
from carrel.ids import new_request_id
from carrel.tenancy.handle import Tenant
from carrel.wire import frames, jsonrpc
from carrel.wire.frames import Connect

POLICY: Final = 1008
GOING_AWAY: Final = 1001
UNSUPPORTED: Final = 1003
TRY_LATER: Final = 1013
_REASONS: Final = {
    "revoked": POLICY,
    "shutdown": GOING_AWAY,
    "slow_reader": TRY_LATER,
    "text_only": UNSUPPORTED,
    "no_connect": POLICY,
}

_LOOK_SECONDS: Final = 0.1
"""How often it is seen whether a slow reader has come to the end."""
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
        self._manner: Manner = JsonRpcManner()
        self._hello: dict[str, Any] = {}
        self._spoken = False

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
        self._hello = {
            "connectionId": self.id, "epoch": hub.epoch, "seq": seq, "missed": missed,
            "version": self._exchange.services.version, "pingSeconds": limits.ping_seconds,
            "maxFrameBytes": limits.frame_bytes,
        }  # fmt: skip
        self.notify("hello", self._hello)
        self._waiting.extend(replayed)

    def deliver(self, event: Event) -> None:
        """Send an event; see `Subscription`."""
        self._send(self._manner.event(event))

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification that is for this connection alone."""
        self._send(self._manner.notification(method, params))

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
        # Before anything is read: an event that came while they load would be told in a manner that the reader left.
        await METHODS.registry()
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
        if self._reason in ("revoked", "shutdown", "no_connect") and self._waiting:
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
        if self._reason == "slow_reader" and transport is not None:
            await self._linger(transport)
        elif self._reason and transport is not None:
            transport.close()

    async def _linger(self, transport: asyncio.WriteTransport) -> None:
        """Give a reader that is behind time to come to the close frame, and so to the reason.

        What is held for it is a fraction of what might have waited before, and its place is still counted.
        """
        limits, clock = self._exchange.limits, self._exchange.services.clock
        self._waiting.clear()
        left = limits.linger_seconds if transport.get_write_buffer_size() <= limits.linger_bytes else 0.0
        try:
            while left > 0 and transport.get_write_buffer_size():
                await clock.sleep(_LOOK_SECONDS)
                left -= _LOOK_SECONDS
        finally:
            transport.close() if not transport.get_write_buffer_size() else transport.abort()

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
            first, self._spoken = not self._spoken, True
            if first and frames.is_opening(message.data):
                await self._quietly(self._turn(speaker, message.data))
                continue
            await self._slots.acquire()
            call = self._exchange.tasks.start(self._quietly(self._answer(speaker, message)), name=f"ws-call {self.id}")
            self._calls.add(call)
            call.add_done_callback(self._over)

    def _over(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._slots.release()

    async def _answer(self, speaker: Speaker, message: WSMessage) -> None:
        if len(message.data) > LARGE_BYTES:
            await self._exchange.services.turns.begin(speaker.tenant.id)
        envelope = self._manner.read(message.data)
        answers = await answered(self._context(speaker), envelope, admitted=False)
        if answers:
            self._send(self._manner.answers(answers, batch=envelope.batch))

    def _context(self, speaker: Speaker) -> Context:
        exchange = self._exchange
        return Context(
            exchange.services, speaker.tenant, exchange.services.directory.current, new_request_id(),
            speaker.caller.label, speaker.scopes, speaker.token_name, peer=self,
            allowed=lambda: exchange.authenticator.still_valid(speaker.caller),
        )  # fmt: skip

    # --- OpenClaw's frames ---

    async def speak_frames(self, opened_by: str, connect: Connect) -> jsonrpc.RpcError | None:
        """Speak in frames from now on; a node is one from here, or is told why not."""
        context, node_id = self._context(self._speaker), None
        self._spoken = True
        if connect.role == "node":
            node_id = device_of(context.token_name)
            about = connect.client
            params = {
                "platform": about.platform, "version": about.version, "capabilities": list(connect.caps),
                "commands": list(connect.commands),
            }  # fmt: skip
            call = jsonrpc.Call(opened_by, "node.connect", params)
            [answer] = await answered(context, jsonrpc.Envelope((call,), batch=False), admitted=False)
            if "error" in answer:
                error = answer["error"]
                return jsonrpc.RpcError(error["code"], error["message"], error.get("data"))
        limits, registry = self._exchange.limits, await METHODS.registry()
        self._manner = FrameManner(
            opened_by, node_id=node_id, buffered=limits.waiting_bytes, methods=[method.name for method in registry]
        )
        self._exchange.tasks.start(self._quietly(self._ticking()), name=f"ws-tick {self.id}")
        return None

    async def _turn(self, speaker: Speaker, text: str) -> None:
        """Go over to frames, which this connection's first one is."""
        self._speaker = speaker
        opened_by = "connect"
        try:
            opened_by, params = frames.opening(text)
            error = await self.speak_frames(opened_by, frames.connecting(params))
        except InvalidRequest as wrong:
            error = rpc_error(wrong, request_id=self.id)
        if error is None:
            self.notify("hello", self._hello)
        else:
            self._send(json.dumps(frames.response(jsonrpc.failure(opened_by, error))))
            self._end("no_connect")

    async def _ticking(self) -> None:
        """What tells clients of frames that the connection lives."""
        clock = self._exchange.services.clock
        while not self.closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._exchange.limits.ping_seconds):
                    await self._ended.wait()
            self._send(json.dumps(frames.event("tick", {"ts": int(clock.now().timestamp() * 1000)})))

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
