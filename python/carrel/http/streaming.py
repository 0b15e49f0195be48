"""Server-sent events on their way to a caller: begun late, kept alive while it is quiet, ended on purpose."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from aiohttp import web

from carrel.http.exchange import Exchange
from carrel.wire.sse import encode_comment

T = TypeVar("T")
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-store",
    "X-Accel-Buffering": "no",
}
_COMMENT: Final = encode_comment("keep-alive")


class EventStream:
    """An answer in pieces. Nothing is sent before the first piece, so that an early failure keeps its status."""

    def __init__(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        self._exchange = exchange
        self.response = web.StreamResponse(headers={**_HEADERS, **headers})
        self._last = 0.0

    @property
    def begun(self) -> bool:
        """Whether the status has been sent."""
        return self.response.prepared

    async def begin(self) -> None:
        """Send the status now, where that was not done yet."""
        if not self.begun:
            await self.response.prepare(self._exchange.request)
            self._last = self._exchange.services.clock.monotonic()

    async def send(self, data: bytes) -> None:
        """Send ``data``; waits while the reader is slow."""
        await self.begin()
        if data:
            self._last = self._exchange.services.clock.monotonic()
            await self.response.write(data)

    async def keep_alive(self) -> None:
        """Send a comment whenever nothing else was sent for a while, until cancelled."""
        clock, pause = self._exchange.services.clock, self._exchange.limits.keepalive_comment_seconds
        while True:
            await clock.sleep(pause / 3)
            # Two writers that wait for one slow reader would share one waiter: this one never waits.
            quiet = self.begun and clock.monotonic() - self._last >= pause
            if (
                quiet
                and self._exchange.request.protocol.connected
                and not self._exchange.request.protocol.writing_paused
            ):
                await self.send(_COMMENT)


@asynccontextmanager
async def event_stream(exchange: Exchange, headers: Mapping[str, str]) -> AsyncIterator[EventStream]:
    """A stream that is kept alive inside the block and ended properly where the block ends without an error."""
    stream = EventStream(exchange, headers)
    keeper = exchange.tasks.start(stream.keep_alive(), name=f"keep-alive {exchange.request_id}")
    try:
        yield stream
    finally:
        keeper.cancel()
    await stream.begin()
    await stream.response.write_eof()


@asynccontextmanager
async def closing(events: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """``events``, closed at the end of the block: what still runs behind them is cancelled."""
    try:
        yield events
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()
