"""One connection to an upstream: requests go out as they are, answers come in with backpressure and deadlines."""

import asyncio
from typing import Final, cast

from carrel.errors import UpstreamError, UpstreamTimeout
from carrel.providers.failures import connection_error
from carrel.relay.framing import AnswerReader, FramingError, Head

HIGH_WATER: Final = 256 * 1024
"""Bytes that wait for a reader before the upstream is paused."""


class Connection(asyncio.Protocol):
    """A connection. `begin` an exchange, wait for its `head`, `read` its body; then it may be used again or not."""

    def __init__(self, provider: str, loop: asyncio.AbstractEventLoop) -> None:
        self.provider = provider
        self.used = False
        self.idle_since = 0.0
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._pieces: list[bytes] = []
        self._size = 0
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._error: UpstreamError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = 0.0
        self._busy = False
        self._deadline = 0.0
        self._quiet = 0.0
        self._heard = 0.0

    @property
    def open(self) -> bool:
        """Whether the transport is there and not closing."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the next request may go out on it."""
        transport = self._transport
        return self._reader.reusable and self._error is None and transport is not None and not transport.is_closing()

    @property
    def silent(self) -> bool:
        """Whether no byte of an answer has come since `begin`."""
        return not self._reader.started

    @property
    def complete(self) -> bool:
        """Whether the whole answer is here, read or not."""
        return self._reader.complete

    def begin(self, request: bytes, body: bytes, *, deadline: float, quiet: float) -> None:
        """Send a request. ``deadline`` is on the loop's clock; ``quiet`` is how long nothing may come, in seconds."""
        self._reader = AnswerReader()
        self._error = None
        if self._transport is None:
            self._error = connection_error(self.provider, reason="closed")
            return
        self._deadline = deadline
        self._quiet = quiet
        self._heard = self._loop.time()
        self._busy = True
        self._look_by(min(deadline, self._heard + quiet))
        if len(body) < HIGH_WATER:
            self._transport.write(request + body)
        else:
            self._transport.write(request)
            self._transport.write(body)

    async def head(self) -> Head:
        """The answer's head; raises UpstreamError or UpstreamTimeout."""
        while self._reader.head is None:
            if self._error is not None:
                raise self._error
            await self._next()
        return self._reader.head

    async def read(self) -> bytes:
        """What has come of the body since, at least a byte; empty at its end. Raises UpstreamError, UpstreamTimeout."""
        while (found := self.taken()) is None:
            await self._next()
        return found

    def taken(self) -> bytes | None:
        """What `read` would give at once, None where it would wait."""
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b"" if self._reader.complete else None
        pieces, self._pieces, self._size = self._pieces, [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """The exchange is over; what is left of it is dropped."""
        self._busy = False
        self._pieces, self._size = [], 0
        self.used = True
        if not self._reader.complete:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> asyncio.Future[None]:
        """Done when there is something new to look at."""
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        self._wake()

    def _look_by(self, at: float) -> None:
        """See to it that `_tick` is called by then. A timer of the exchange before is left where it comes first."""
        if self._timer is not None:
            if self._looks_at <= at:
                return
            self._timer.cancel()
        self._looks_at = at
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = None
        if not self._busy:
            return
        if now >= self._deadline:
            self._fail(UpstreamTimeout(f"Provider {self.provider!r} did not finish within the call's deadline."))
        elif not self._paused and now >= self._heard + self._quiet:
            what = "did not answer" if self.silent else "stopped answering"
            self._fail(UpstreamTimeout(f"Provider {self.provider!r} {what}: nothing came for {self._quiet:g} seconds."))
        else:
            next_look = max(self._heard + self._quiet, now + 0.05) if not self._paused else now + self._quiet
            self._look_by(min(self._deadline, next_look))
            return
        self.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            body = self._reader.feed(data)
        except FramingError as error:
            self._fail(connection_error(self.provider, reason=str(error)))
            self.abort()
            return
        if body:
            self._pieces.append(body)
            self._size += len(body)
            if self._size > HIGH_WATER and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
        if self._waiter is not None and (self._pieces or self._reader.head is not None):
            self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            if exc is None:
                self._reader.eof()
            elif not self._reader.complete:
                raise FramingError("the connection was lost")
        except FramingError as error:
            self._fail(connection_error(self.provider, reason=str(error)))
        self._wake()
