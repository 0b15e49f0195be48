"""`GET /`: the WebSocket of clients and nodes that were written for OpenClaw.

They connect without a header and say who they are in their first frame. Until then a connection is nobody's: there are
few of these, it has ten seconds, one frame of bounded size, of which nothing beyond is kept, and what is wrong with it
counts against its address as on every other way in. From then on it is a connection like those of `/ws`, in other
words.
"""

import asyncio
import json
import os
from typing import Final

from aiohttp import WSMessage, WSMsgType, web

from carrel.errors import CarrelError, RateLimited, TooLarge, Unauthorized
from carrel.events.hub import Subscription
from carrel.http.auth import TenantCaller, require_tenant
from carrel.http.connection import EdgeProtocol
from carrel.http.errors import rpc_error
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.http.ws import Sockets
from carrel.http.ws_connection import POLICY, UNSUPPORTED, Connection, Speaker
from carrel.wire import frames, jsonrpc

OPENING_SECONDS: Final = 10.0
OPENING_BYTES: Final = 64 * 1024
_AROUND_BYTES: Final = 4 * 1024
"""What frames, pings and pongs may take around it."""
MOST_OPENING: Final = 64
_RETRY_SECONDS: Final = 5.0


class Refused(CarrelError):
    """The first frame was not good enough; ``opened_by`` is its id where it could be read."""

    def __init__(self, opened_by: str, error: CarrelError) -> None:
        super().__init__(error.message)
        self.opened_by = opened_by
        self.error = error


class Openings:
    """How many connections have not said yet whose they are."""

    def __init__(self) -> None:
        self.count = 0

    async def opened(self, exchange: Exchange, socket: web.WebSocketResponse) -> tuple[str, frames.Connect, Speaker]:
        """The first frame, and whose it is; raises Refused, TimeoutError, or ConnectionError where it closed."""
        if self.count >= MOST_OPENING:
            raise Refused("connect", RateLimited("Too many connections open at once.", retry_after=_RETRY_SECONDS))
        self.count += 1
        try:
            nonce = os.urandom(16).hex()
            now_ms = int(exchange.services.clock.now().timestamp() * 1000)
            await socket.send_str(json.dumps(frames.event("connect.challenge", {"nonce": nonce, "ts": now_ms})))
            async with asyncio.timeout(OPENING_SECONDS):
                message = await _first(exchange, socket)
        finally:
            self.count -= 1
        if message is None or (message.type is WSMsgType.TEXT and len(message.data) > OPENING_BYTES):
            raise Refused("connect", TooLarge(f"The first frame has at most {OPENING_BYTES} bytes."))
        if message.type is WSMsgType.BINARY:
            await socket.close(code=UNSUPPORTED, message=b"text_only")
        if message.type is not WSMsgType.TEXT:
            raise ConnectionError
        opened_by = "connect"
        try:
            opened_by, params = frames.opening(message.data)
            connect = frames.connecting(params)
            return opened_by, connect, await _speaker(exchange, connect, nonce)
        except CarrelError as error:
            raise Refused(opened_by, error) from error


async def _first(exchange: Exchange, socket: web.WebSocketResponse) -> WSMessage | None:
    """The first frame, None where it is too large."""
    protocol = exchange.request.protocol
    assert isinstance(protocol, EdgeProtocol)  # noqa: S101 - for the type checker alone
    too_large = asyncio.Event()
    protocol.bound(OPENING_BYTES + _AROUND_BYTES, too_large.set)
    frame = exchange.tasks.start(socket.receive(), name="ws-first")
    over = exchange.tasks.start(_waited(too_large), name="ws-too-large")
    try:
        await asyncio.wait({frame, over}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (frame, over):
            task.cancel()
        await asyncio.wait({frame, over})
        protocol.unbound()
    return None if too_large.is_set() else frame.result()


async def _waited(event: asyncio.Event) -> None:
    await event.wait()


async def _speaker(exchange: Exchange, connect: frames.Connect, nonce: str) -> Speaker:
    """Who speaks: the credential says so. A device's signature is checked where there is one, and proves no tenant."""
    caller = exchange.authenticator.known(connect.credential, exchange.snapshot)
    try:
        if not isinstance(caller, TenantCaller):
            raise Unauthorized("`auth.token` is not known here: send a tenant's token, or a node's.")
        now_ms = int(exchange.services.clock.now().timestamp() * 1000)
        if connect.device is not None:
            await asyncio.to_thread(frames.prove, connect, nonce=nonce, now_ms=now_ms)
    except Unauthorized:
        wait = exchange.authenticator.failed(exchange.address)
        if wait is not None:
            raise RateLimited("Too many failed attempts from this address.", retry_after=wait) from None
        raise
    exchange.caller = exchange.live.caller = caller
    exchange.tenant_id = caller.tenant.id
    return Speaker.of(require_tenant(caller, "node" if connect.role == "node" else "rpc"))


def routes(sockets: Sockets) -> tuple[Route, ...]:
    """The route, which counts its connections in ``sockets`` once they are somebody's."""
    openings = Openings()

    async def root(exchange: Exchange) -> web.StreamResponse:
        """A WebSocket in OpenClaw's frames; for a browser, the way to the terminal."""
        if exchange.request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=303, headers={"Location": "/terminal"})
        exchange.require_own_page(needed=False)
        limits = exchange.limits
        socket = web.WebSocketResponse(
            heartbeat=limits.ping_seconds, max_msg_size=limits.frame_bytes, timeout=limits.close_seconds, compress=False
        )
        await socket.prepare(exchange.request)
        exchange.live.endless = True
        try:
            opened_by, connect, speaker = await openings.opened(exchange, socket)
            with sockets.one_more(speaker.tenant.id, limits.sockets_per_tenant, exchange.services.metrics):
                await _served(exchange, socket, speaker, opened_by, connect)
        except Refused as refused:
            await _refuse(exchange, socket, refused.opened_by, refused.error)
        except RateLimited as error:
            await _refuse(exchange, socket, "connect", error)
        except TimeoutError:
            await socket.close(code=POLICY, message=b"no_connect")
        except ConnectionError:
            await socket.close()
        return socket

    return (Route("GET", "/", root, "public", "A WebSocket in the frames of OpenClaw's clients.", status=101),)


async def _served(
    exchange: Exchange, socket: web.WebSocketResponse, speaker: Speaker, opened_by: str, connect: frames.Connect
) -> None:
    connection = Connection(exchange, speaker, socket)
    error = await connection.speak_frames(opened_by, connect)
    if error is not None:
        await socket.send_str(json.dumps(frames.response(jsonrpc.failure(opened_by, error))))
        await socket.close(code=POLICY, message=b"no_connect")
        return
    subscription, hub = Subscription(speaker.tenant.own, (), connection.deliver), exchange.services.hub
    connection.on_close(lambda: hub.leave(speaker.tenant, subscription))
    try:
        connection.welcome(hub, subscription if "rpc" in speaker.scopes else None)
        await connection.serve()
    finally:
        hub.leave(speaker.tenant, subscription)


async def _refuse(exchange: Exchange, socket: web.WebSocketResponse, opened_by: str, error: CarrelError) -> None:
    told = jsonrpc.failure(opened_by, rpc_error(error, request_id=exchange.request_id))
    await socket.send_str(json.dumps(frames.response(told)))
    await socket.close(code=POLICY, message=error.code.encode())
