"""The listeners, and the root of every request: its id, its errors, its line in the log, its end."""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from aiohttp import web

from carrel.errors import CarrelError, Forbidden, Unavailable
from carrel.http.absent import absent, dialect_of, no_websocket
from carrel.http.app import make_app
from carrel.http.attempts import FailedAttempts
from carrel.http.auth import Authenticator
from carrel.http.body import answer_and_close
from carrel.http.browser_sessions import BrowserSessions
from carrel.http.chat import chat_completions
from carrel.http.connection import EdgeProtocol, EdgeRequest, EdgeServer
from carrel.http.control_socket import ControlSocket, peer_uid
from carrel.http.errors import MethodNotAllowed, render, unexpected
from carrel.http.exchange import Exchange
from carrel.http.hosts import Hosts
from carrel.http.live import LiveRequests
from carrel.http.request_log import RequestLog
from carrel.http.routes import EXCHANGE
from carrel.http.services import Limits, Services
from carrel.http.short_way import COMPLETIONS, ShortChat
from carrel.ids import request_id_from
from carrel.relay.response import Relayed
from carrel.tasks import Tasks

_log = structlog.get_logger(__name__)
FRESH_SECONDS: Final = 1.0
"""How long a gateway that stops waits for the first request of a connection that it has taken already."""
_LOOK_SECONDS: Final = 0.02
_CLOSING: Final = frozenset({"too_large", "request_timeout"})


class Server:
    """The gateway's HTTP edge on a TCP address and on the control socket."""

    def __init__(self, services: Services, *, limits: Limits | None = None) -> None:
        self._services = services
        self._limits = limits or Limits()
        self._hosts = Hosts(services.host_names)
        attempts = FailedAttempts(
            services.clock, limit=self._limits.failed_attempts, window=self._limits.failed_window_seconds
        )
        self._authenticator = Authenticator(
            directory=services.directory, tokens=services.tokens, clock=services.clock, attempts=attempts
        )
        self._browsers = BrowserSessions(services.clock)
        self._live = LiveRequests(services.clock, self._limits, self._authenticator.still_valid)
        self._tasks = Tasks("http")
        self._servers: list[EdgeServer] = []
        self._listeners: list[asyncio.Server] = []
        self._runner: web.AppRunner | None = None
        self._control: ControlSocket | None = None
        self._draining = False
        self.port: int | None = None
        self._log = RequestLog(services.clock, services.metrics)

    async def start(
        self, host: str | None, port: int = 0, socket_path: Path | None = None, *, handed: Sequence[socket.socket] = ()
    ) -> None:
        """Listen on ``host`` and ``port`` (0: any that is free; see ``port``) and on the unix ``socket_path``.

        ``handed`` are sockets that listen already and take the place of ``host`` and ``port``. Whoever handed them over
        holds them too: what comes while nobody accepts waits in them. Raises OSError where the address is taken.
        """
        self._log = RequestLog(self._services.clock, self._services.metrics)
        self._runner = web.AppRunner(make_app(self._services, self._readiness), handle_signals=False, access_log=None)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            for one in handed:
                listener = await loop.create_server(self._server(control=False), sock=one, backlog=1024)
                self._listeners.append(listener)
                self.port = one.getsockname()[1]
            if host is not None and not handed:
                listener = await loop.create_server(
                    self._server(control=False), host, port, backlog=1024, reuse_address=True
                )
                self._listeners.append(listener)
                self.port = listener.sockets[0].getsockname()[1]
            if socket_path is not None:
                await self._listen_on(socket_path)
        except BaseException:
            await self.stop(0)
            raise
        self._tasks.start(self._live.watch(self._connections), name="watch")

    async def _listen_on(self, path: Path) -> None:
        self._control = ControlSocket(path, starter_uid=self._services.starter_uid)
        listening = self._control.bind()
        try:
            listener = await asyncio.get_running_loop().create_unix_server(self._server(control=True), sock=listening)
        except BaseException:
            listening.close()
            raise
        self._listeners.append(listener)

    def _server(self, *, control: bool) -> EdgeServer:
        server = EdgeServer(
            partial(self._handle, control=control),
            limit=self._limits.connections,
            short_way=None if control else self._short_way(),
            request_factory=self._make_request,
            keepalive_timeout=self._limits.header_seconds,
            access_log=None,
            auto_decompress=False,
            lingering_time=1.0,
            max_headers=100,
        )
        self._servers.append(server)
        return server

    def _short_way(self) -> ShortChat:
        return ShortChat(
            self._services, hosts=self._hosts, authenticator=self._authenticator, live=self._live, tasks=self._tasks,
            log=self._log, draining=lambda: self._draining,
        )  # fmt: skip

    @staticmethod
    def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> EdgeRequest:
        return EdgeRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())

    def _connections(self) -> list[web.RequestHandler]:
        return [connection for server in self._servers for connection in server.connections]

    def _quiet_connections(self, *, fresh: bool) -> list[web.RequestHandler]:
        """Those that no request arrives on without being handled yet; and ``fresh`` ones, or not."""
        return [
            one
            for one in self._connections()
            if not (isinstance(one, EdgeProtocol) and (one.gathering or (one.fresh and not fresh)))
        ]

    async def _hear_fresh(self, seconds: float) -> None:
        """Give connections that were opened just now, and taken, the time to say what they were opened for."""
        for _ in range(int(seconds / _LOOK_SECONDS)):
            if len(self._quiet_connections(fresh=True)) == len(self._quiet_connections(fresh=False)):
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._live.close_idle(self._quiet_connections(fresh=True))

    def _readiness(self) -> str | None:
        """Why the gateway is not ready, None where it is."""
        if self._draining:
            return "draining"
        try:
            _ = self._services.directory.current
        except CarrelError as error:
            return error.message
        return None

    def begin_drain(self) -> None:
        """Take no connection and no second request of one from now on; what runs goes on."""
        self._draining = True
        for listener in self._listeners:
            listener.close()
        self._live.close_idle(self._quiet_connections(fresh=False))
        self._live.end_endless("shutdown")

    async def stop(self, grace: float) -> None:
        """Drain for up to ``grace`` seconds, then cut off what is left, and close everything."""
        self.begin_drain()
        await self._hear_fresh(min(grace, FRESH_SECONDS))
        if not await self._live.drained(grace):
            self._live.end_all("shutdown")
            await self._live.drained(2.0)
        for server in self._servers:
            await server.shutdown(0.5)
        for listener in self._listeners:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await listener.wait_closed()
        await self._tasks.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._control is not None:
            self._control.remove()
        self._servers.clear()
        self._listeners.clear()

    async def _handle(self, request: web.BaseRequest, *, control: bool) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is None or not isinstance(request, EdgeRequest):
            raise TypeError("a request of another kind than this server makes")
        request_id = request.request_id = request_id_from(request.headers.get("X-Request-Id"))
        protocol = request.protocol
        first = isinstance(protocol, EdgeProtocol) and protocol.fresh
        if isinstance(protocol, EdgeProtocol):
            protocol.fresh = False
        live = self._live.enter(request_id, task, protocol)
        exchange = Exchange(
            request, request_id, self._services, self._limits, self._authenticator, self._tasks, live,
            self._browsers, control,
        )  # fmt: skip
        status = 0
        try:
            parent = request.headers.get("traceparent", "")
            about = {"method": request.method, "request_id": request_id}
            with self._services.traces.request("request", parent=parent, **about) as span:
                response = await self._answer(exchange, first=first)
                status = response.status
                span.set(route=exchange.route, status=status, tenant=exchange.tenant_id or "-")
            return response
        finally:
            self._live.leave(live)
            status = status or live.refused or 499
            self._log.write(
                live, tenant=exchange.tenant_id, method=request.method, route=exchange.route, status=status
            )  # fmt: skip

    async def _answer(self, exchange: Exchange, *, first: bool) -> web.StreamResponse:
        request = exchange.request
        try:
            self._judge_connection(exchange, first=first)
            if request.method == "POST" and request.path == COMPLETIONS:
                # The router and its middlewares cost more than all the rest of this path.
                exchange.route = COMPLETIONS
                exchange.dialect = "openai"
                return await chat_completions(exchange)
            return await self._routed(exchange)
        except CarrelError as error:
            return await self._refuse(exchange, error)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the root of a request
            _log.error("request failed", request_id=exchange.request_id, route=exchange.route, exc_info=error)
            return await self._refuse(exchange, unexpected(error, exchange.request_id))

    async def _routed(self, exchange: Exchange) -> web.StreamResponse:
        request = exchange.request
        exchange.dialect = dialect_of(request.path, request.headers)
        request[EXCHANGE] = exchange
        if self._runner is None or self._runner.server is None:
            raise Unavailable("The gateway is not running.")
        try:
            return await self._runner.server.request_handler(request)
        except web.HTTPMethodNotAllowed as error:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                raise no_websocket() from None
            raise MethodNotAllowed(", ".join(sorted(error.allowed_methods))) from None
        except web.HTTPNotFound:
            raise absent(request.path) from None

    def _judge_connection(self, exchange: Exchange, *, first: bool) -> None:
        request = exchange.request
        if exchange.control:
            if self._control is None or not self._control.admits(peer_uid(request)):
                raise Forbidden("The control socket admits root, the gateway's own user and who started it.")
        else:
            self._hosts.check(request.headers.getall("Host", []))
        if self._draining and not first:
            raise Unavailable("The gateway is stopping; try again in a moment.")

    async def _refuse(self, exchange: Exchange, error: CarrelError) -> web.StreamResponse:
        request = exchange.request
        # An answer of the relay is begun with its first piece, not with its head: until then an error takes its place.
        if request.begun is not None and not (isinstance(request.begun, Relayed) and not request.begun.started):
            # The answer has begun: an end without its proper ending is all that can still be said.
            _log.warning("answer cut off", request_id=exchange.request_id, code=error.code)
            request.protocol.force_close()
            return request.begun
        response = render(error, dialect=exchange.dialect, request_id=exchange.request_id)
        if self._draining:
            response.force_close()
        if error.code in _CLOSING or not request.content.is_eof():
            exchange.live.refused = response.status
            return await answer_and_close(request, response, known=exchange.caller is not None)
        return response
