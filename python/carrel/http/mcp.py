"""`/mcp/{server}`: a tenant's MCP servers, for who has its token; and the same for what runs in its sandbox."""

from typing import Final

import structlog
from aiohttp import web

from carrel.egress.visitor import Standing, Visitor
from carrel.errors import CarrelError, Forbidden, InternalError, NotFound, Unavailable
from carrel.http.errors import MethodNotAllowed, render
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.ids import new_request_id
from carrel.mcp.proxy import McpCaller, McpProxy

PREFIX: Final = "/mcp/"
METHODS: Final = ("DELETE", "GET", "POST")
_log = structlog.get_logger(__name__)


async def mcp_message(exchange: Exchange) -> web.StreamResponse:
    """A message to a server, and its answer."""
    return await _passed(exchange)


async def mcp_stream(exchange: Exchange) -> web.StreamResponse:
    """A standing stream: as long as both sides want it, and its token, which is asked again all the while, is good."""
    exchange.live.endless = True
    return await _passed(exchange)


async def mcp_end(exchange: Exchange) -> web.StreamResponse:
    """The end of a session."""
    return await _passed(exchange)


async def _passed(exchange: Exchange) -> web.StreamResponse:
    exchange.require_own_page(needed=False)
    caller = exchange.tenant("chat")
    if exchange.services.mcp is None:
        raise Unavailable("No MCP server is reached from here.")
    asks = McpCaller(caller.tenant, exchange.snapshot, caller.label, exchange.request_id)
    return await exchange.services.mcp.handle(exchange.request, exchange.request.match_info["server"], asks)


class McpForSandboxes:
    """The same at the gate of a sandbox; see `egress.service.Own`. Whose it is, the gate knows."""

    def __init__(self, proxy: McpProxy) -> None:
        self._proxy = proxy

    async def call(
        self, request: web.BaseRequest, standing: Standing, visitor: Visitor, /
    ) -> web.StreamResponse:  # fmt: skip
        """Answer one request, or say why not."""
        request_id = visitor.request_id or new_request_id()
        try:
            return await self._answer(request, standing, visitor)
        except CarrelError as error:
            return render(error, dialect="jsonrpc", request_id=request_id)
        except ConnectionError:
            if request.transport is not None:
                request.transport.abort()
            raise
        except Exception:  # noqa: BLE001 - the root of a call that a sandbox made
            _log.exception("a sandbox's MCP call failed", tenant=visitor.tenant_id)
            failure = InternalError("The gateway failed; its operator finds it in the log.")
            return render(failure, dialect="jsonrpc", request_id=request_id)

    async def _answer(
        self, request: web.BaseRequest, standing: Standing, visitor: Visitor
    ) -> web.StreamResponse:  # fmt: skip
        if request.method not in METHODS:
            raise MethodNotAllowed(", ".join(METHODS))
        if not request.path.startswith(PREFIX):
            raise NotFound(f"This host serves {PREFIX}NAME to sandboxes, and nothing else.")
        if "Origin" in request.headers:
            raise Forbidden("A page may not do this.")
        tenant = standing.tenant.as_member(visitor.member)
        caller = McpCaller(
            tenant, standing.snapshot, f"sandbox:{visitor.tenant_id}", visitor.request_id or new_request_id(),
            visitor.agent,
        )  # fmt: skip
        return await self._proxy.handle(request, request.path.removeprefix(PREFIX), caller)


ROUTES: Final = (
    Route("POST", "/mcp/{server}", mcp_message, "tenant-chat",
          "A message to an MCP server, with the tenant's own credential put in.", dialect="jsonrpc", counts=True),
    Route("GET", "/mcp/{server}", mcp_stream, "tenant-chat", "An MCP server's standing stream of events.",
          dialect="jsonrpc", media="text/event-stream", counts=True),
    Route("DELETE", "/mcp/{server}", mcp_end, "tenant-chat", "End a session with an MCP server.", dialect="jsonrpc",
          counts=True),
)  # fmt: skip
