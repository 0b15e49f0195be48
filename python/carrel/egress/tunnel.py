"""Two connections made one: what comes from either goes to the other, unread, at the pace of the slower."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

IDLE_SECONDS: Final = 900.0
HALF_SECONDS: Final = 60.0
HIGH_WATER: Final = 256 << 10


class Tunnel:
    """Joins two transports until both have ended. ``ended`` is called once, with the bytes from and to the client."""

    def __init__(
        self,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        *,
        ended: Callable[[int, int], None],
        idle: float = IDLE_SECONDS,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: Callable[[int, int], None] | None = ended
        self._idle = idle
        self._from_client = _Half(self, upstream)
        self._from_upstream = _Half(self, client)
        self._from_client.other, self._from_upstream.other = self._from_upstream, self._from_client
        self._transports = (client, upstream)
        for transport, half in ((client, self._from_client), (upstream, self._from_upstream)):
            half.source = transport
            transport.set_write_buffer_limits(HIGH_WATER)
            transport.set_protocol(half)
        self._last = self._loop.time()
        self._timer = self._loop.call_later(idle, self._look)

    def start(self, first: bytes) -> None:
        """Send ``first``, which the client has said already, and go on from there."""
        if first:
            self._from_client.data_received(first)
        for transport in self._transports:
            transport.resume_reading()

    def touched(self) -> None:
        """Note that something came."""
        self._last = self._loop.time()

    def half_closed(self) -> None:
        """Give the other direction a shorter time from now on, for many never end it."""
        self._idle = min(self._idle, HALF_SECONDS)
        self._timer.cancel()
        self._timer = self._loop.call_later(self._idle, self._look)

    def close(self) -> None:
        """End both."""
        self._timer.cancel()
        for transport in self._transports:
            transport.close()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(self._from_client.count, self._from_upstream.count)

    def _look(self) -> None:
        left = self._last + self._idle - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        for transport in self._transports:
            transport.abort()
        self.close()


class _Half(asyncio.Protocol):
    """Reads from one of the two and writes to ``target``, the other one."""

    other: "_Half"
    source: asyncio.Transport

    def __init__(self, tunnel: Tunnel, target: asyncio.Transport) -> None:
        self.count = 0
        self.over = False
        self._tunnel = tunnel
        self._target = target

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        self._tunnel.touched()
        self._target.write(data)

    def eof_received(self) -> bool:
        self.over = True
        if self.other.over or not self._target.can_write_eof():
            self._tunnel.close()
            return False
        self._target.write_eof()
        self._tunnel.half_closed()
        return True

    def pause_writing(self) -> None:
        # This side's own buffer is full: the other one is not to send for it.
        self.other.source.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.source.is_closing():
            self.other.source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.close()


async def joined(upstream: object) -> asyncio.Transport:
    """A transport of the connected socket ``upstream``, not reading yet."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(_Waiting, sock=upstream)  # type: ignore[call-overload] # a socket
    made = cast(asyncio.Transport, transport)
    made.pause_reading()
    return made


class _Waiting(asyncio.Protocol):
    """Takes nothing: whoever made the connection gives it a protocol that does."""
