"""Connections as this edge wants them: bounded in number, silent about their maker, with refusals in our own words."""

import asyncio
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from carrel.errors import InvalidRequest
from carrel.http.errors import problem
from carrel.ids import RequestId, new_request_id

_log = structlog.get_logger(__name__)


class EdgeRequest(web.Request):
    """A request that knows its id before it has a route, and what answer was begun."""

    ATTRS = web.Request.ATTRS | frozenset({"request_id", "begun"})

    request_id: RequestId | None = None
    begun: web.StreamResponse | None = None

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        self.begun = response
        headers = response.headers
        headers.pop("Server", None)
        if self.request_id is not None:
            headers["X-Request-Id"] = self.request_id
        headers["X-Content-Type-Options"] = "nosniff"


class EdgeProtocol(web.RequestHandler):
    """One connection. What the parser refuses is answered with 400 in our dialect, and the connection closes."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        if isinstance(manager, EdgeServer) and manager.full and isinstance(transport, asyncio.Transport):
            _log.warning("connection refused: too many are open", limit=manager.limit)
            transport.abort()
        super().connection_made(transport)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never became a request, or to a fault that no handler of ours caught."""
        request_id = new_request_id()
        if isinstance(request, EdgeRequest):
            request_id = request.request_id = request.request_id or request_id
        if isinstance(exc, HttpProcessingError):
            _log.info("request refused by the parser", request_id=request_id, reason=type(exc).__name__)
        else:
            _log.error("request failed outside its handler", request_id=request_id, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun")
        body = problem(InvalidRequest("This is not a well-formed HTTP request."), request_id=request_id)
        response = web.json_response(body, status=400 if status < 500 else status)
        response.content_type = "application/problem+json"
        response.force_close()
        return response


class EdgeServer(web.Server):
    """aiohttp's server of connections, with a ceiling on how many there are."""

    def __init__(self, handler: Any, *, limit: int, **options: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **options)
        self.limit = limit

    @property
    def full(self) -> bool:
        """Whether another connection would be one too many."""
        return len(self._connections) >= self.limit

    def __call__(self) -> web.RequestHandler:
        return EdgeProtocol(self, loop=self._loop, **self._kwargs)
