"""Connections as this edge wants them: bounded in number, silent about their maker, with refusals in our own words.

Most requests go through aiohttp's parser and server, the ordinary way. One that is wholly plain is offered to a short
way first, between requests only; what that does not take goes the ordinary way with its bytes as they came.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from carrel.errors import InvalidRequest
from carrel.http.errors import problem
from carrel.http.plain import Heads, PlainHead
from carrel.ids import RequestId, new_request_id

_log = structlog.get_logger(__name__)
SHORT_BODY: Final = 256 * 1024
"""The longest body that is gathered for the short way."""
GATHER_SECONDS: Final = 1.0
"""How long is waited for the rest of such a body, before the ordinary way takes it over with its own deadlines."""
HELD_BYTES: Final = 64 * 1024
"""What is read ahead of a connection while a request of it is answered."""
QUOTA_WARNING: Final = "X-Quota-Warning"
"""The header that names the soft quotas that are passed."""
_LOST: Final = -1


class EdgeRequest(web.Request):
    """A request that knows its id before it has a route, and what answer was begun."""

    ATTRS = web.Request.ATTRS | frozenset({"request_id", "begun", "soft_passed"})

    request_id: RequestId | None = None
    begun: web.StreamResponse | None = None
    soft_passed: Callable[[], Sequence[str]] | None = None
    """The soft quotas that the caller's tenant has passed, for a header of the answer."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        await super()._prepare_hook(response)
        self.begun = response
        headers = response.headers
        headers.pop("Server", None)
        if self.request_id is not None:
            headers["X-Request-Id"] = self.request_id
        headers["X-Content-Type-Options"] = "nosniff"
        passed = self.soft_passed() if self.soft_passed is not None else ()
        if passed:
            headers[QUOTA_WARNING] = ", ".join(passed)


class ShortWay(Protocol):
    """Takes plain requests of one kind past aiohttp."""

    path: str

    def take(self, connection: "EdgeProtocol", head: PlainHead, body: bytes) -> "asyncio.Task[None] | None":
        """Begin to answer; the task calls the connection's `answered` at its end. None: it goes the ordinary way."""
        ...


class EdgeProtocol(web.RequestHandler):
    """One connection. What the parser refuses is answered with 400 in our dialect, and the connection closes.

    The short way may take a request where aiohttp's parser is known to stand between two: all that it was given were
    whole plain requests. After the first that is not plain the connection is aiohttp's for good.
    """

    __slots__ = (
        "_bound", "_gathered", "_gathering", "_heads", "_owed", "_short", "_short_way", "_too_much", "_waiting",
        "fresh",
    )  # fmt: skip

    def __init__(self, manager: "EdgeServer", *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._short_way = manager.short_way
        self._owed = 0 if self._short_way is not None else _LOST
        self._heads = Heads()
        self._gathered: tuple[PlainHead, bytearray] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._short: asyncio.Task[None] | None = None
        self._waiting: bytearray | None = None
        self._bound: int | None = None
        self._too_much: Callable[[], None] | None = None
        self.fresh = True
        """No request of it was handled yet: whoever opened it may be about to send one, and will not try again."""

    @property
    def gathering(self) -> bool:
        """Whether a request has begun to arrive that nobody handles yet."""
        return self._gathered is not None

    def bound(self, size: int, too_much: Callable[[], None]) -> None:
        """Take ``size`` more bytes; what comes beyond them is let fall, and ``too_much`` called. For a stranger."""
        self._bound, self._too_much = size, too_much

    def unbound(self) -> None:
        """Take all from now on, unless too much came."""
        if self._bound is not None and self._bound >= 0:
            self._bound = self._too_much = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        manager = self._manager
        if isinstance(manager, EdgeServer) and manager.full and isinstance(transport, asyncio.Transport):
            _log.warning("connection refused: too many are open", limit=manager.limit)
            transport.abort()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
        if self._short is not None:
            self._short.cancel()
        super().connection_lost(exc)

    async def _drain_helper(self) -> None:
        """Wait until what was written is taken. Who is cancelled here takes no other's wait along, as in aiohttp."""
        if self.transport is None or not self.writing_paused:
            await super()._drain_helper()
            return
        if self._drain_waiter is None:
            self._drain_waiter = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._drain_waiter)

    def data_received(self, data: bytes) -> None:
        if self._bound is not None and not self._is_within(self._bound, data):
            return
        if not data:
            # So aiohttp asks itself to go on with what its parser held back, a body's end among it.
            super().data_received(data)
        elif self._short is not None:
            self._hold(data)
        elif self._owed == _LOST or self._force_close or self._close:
            super().data_received(data)
        elif self._gathered is not None:
            self._gather(*self._gathered, data)
        else:
            self._sort(data)

    def answered(self, *, keeps: bool) -> None:
        """The short way is done with its request; ``keeps``: the connection takes another."""
        self._short = None
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if not keeps or self._close:
            self.force_close()
            return
        waiting, self._waiting = self._waiting, None
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        if waiting is not None:
            self.data_received(bytes(waiting))

    def _is_within(self, bound: int, data: bytes) -> bool:
        self._bound = bound - len(data)
        too_much = self._too_much
        if self._bound < 0 and too_much is not None:
            self._too_much = None
            too_much()
        return self._bound >= 0

    # --- where bytes go ---

    def _sort(self, data: bytes) -> None:
        """Give each request in ``data`` its way; what follows one that takes the short way waits for its answer."""
        while data:
            if self._owed:
                data = self._ordinary(data, self._owed)
                continue
            head = self._heads.read(data)
            if head is None:
                self._owed = _LOST
                super().data_received(data)
                return
            total = head.total
            if self._shortens(head):
                if len(data) < total:
                    self._gathered = head, bytearray(data)
                    self._gathering = self._loop.call_later(GATHER_SECONDS, self._too_slow)
                    return
                if self._taken(head, data, total):
                    return
            data = self._ordinary(data, total)

    def _ordinary(self, data: bytes, total: int) -> bytes:
        """Give aiohttp the request of ``total`` bytes that ``data`` begins with, or what is here of it; the rest."""
        mine = data[:total]
        self._owed = total - len(mine)
        super().data_received(mine)
        return data[total:]

    def _gather(self, head: PlainHead, front: bytearray, data: bytes) -> None:
        """Put what came to a body that is not all here."""
        front += data
        if len(front) >= head.total:
            self._sort(self._gathered_so_far())

    def _gathered_so_far(self) -> bytes:
        front = self._gathered[1] if self._gathered is not None else b""
        self._gathered = None
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        return bytes(front)

    def _too_slow(self) -> None:
        """A body that does not come at once is the ordinary way's: that has the deadlines for it."""
        if self._gathered is not None:
            head = self._gathered[0]
            self._ordinary(self._gathered_so_far(), head.total)

    @property
    def _idle(self) -> bool:
        """Whether aiohttp has nothing to answer: it never had, or it waits for the next request."""
        if not self._request_count:
            return True
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages

    def _shortens(self, head: PlainHead) -> bool:
        """Whether ``head`` is of a request for the short way, and aiohttp has nothing to answer before it."""
        way = self._short_way
        return (
            way is not None
            and head.target == way.path
            and head.method == "POST"
            and head.length <= SHORT_BODY
            and self._idle
        )

    def _taken(self, head: PlainHead, data: bytes, total: int) -> bool:
        way = self._short_way
        self._short = way.take(self, head, data[head.size : total]) if way is not None else None
        if self._short is None:
            return False
        if len(data) > total:
            self._hold(data[total:])
        return True

    def _hold(self, data: bytes) -> None:
        """Keep what came behind a request that is being answered."""
        if self._waiting is None:
            self._waiting = bytearray()
        self._waiting += data
        if len(self._waiting) > HELD_BYTES and not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _process_keepalive(self) -> None:
        if self._short is not None or self._gathered is not None:
            # Idle as aiohttp sees it, and busy on the short way.
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

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

    def __init__(self, handler: Any, *, limit: int, short_way: ShortWay | None = None, **options: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **options)
        self.limit = limit
        self.short_way = short_way

    @property
    def full(self) -> bool:
        """Whether another connection would be one too many."""
        return len(self._connections) >= self.limit

    def __call__(self) -> web.RequestHandler:
        return EdgeProtocol(self, loop=self._loop, **self._kwargs)
