"""The answer to the caller, in as few writes as it has pieces: the head goes with the first, framing with its data.

Knows no server: whoever waits for it is a `Caller`, a connection to write to.
"""

import asyncio
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp.helpers import rfc822_formatted_time

from carrel.ids import RequestId

STALL_SECONDS: Final = 60.0
"""How long a caller may take nothing of what waits for it."""
_REASON: Final = {status.value: status.phrase for status in HTTPStatus}


class CallerGone(Exception):
    """The caller went away, or reads nothing."""


class Caller(Protocol):
    """Whoever waits for an answer, as the relay sees it.

    ``modern``: HTTP/1.1 or later, so that chunks are understood. ``keeps``: the connection is used again; an answer
    sets it to false where the end of the connection is its own. ``paused``: more was written than was taken.
    """

    keeps: bool

    @property
    def modern(self) -> bool: ...
    @property
    def paused(self) -> bool: ...
    def lines(self) -> str:
        """The header lines that the edge gives every answer."""
        ...

    def put(self, data: bytes) -> None:
        """Write ``data``; raises CallerGone."""
        ...

    async def drained(self) -> None:
        """Wait until what was written is taken; raises ConnectionError."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Answer:
    """An answer that writes itself to its caller.

    `begin` it, then `send` and `finish`, or `cut` it; before the first of those nothing is written, and an error can
    still be answered in its place.
    """

    __slots__ = ("_begun", "_caller", "_chunks", "_head", "_names", "stall_seconds", "status")

    def __init__(
        self,
        caller: Caller,
        *,
        status: int,
        content_type: str,
        request_id: RequestId,
        provider_request_id: str = "",
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._caller = caller
        self.status = status
        self.stall_seconds = stall_seconds
        upstream = f"\r\nX-Provider-Request-Id: {provider_request_id}" if provider_request_id else ""
        self._names = f"Content-Type: {content_type}\r\nX-Request-Id: {request_id}{upstream}"
        self._begun = False
        self._head = b""
        self._chunks = False

    @property
    def started(self) -> bool:
        """Whether anything was written."""
        return self._begun and not self._head

    def begin(self, *, length: int | None = None, more: str = "") -> None:
        """Make the head. ``length`` is the body's, None where it is not known; ``more`` are header lines."""
        caller = self._caller
        kept = caller.keeps
        self._begun = True
        self._chunks = length is None and caller.modern
        caller.keeps = kept and (self._chunks or length is not None)
        if length is not None:
            framing = f"Content-Length: {length}\r\n"
        else:
            framing = "Transfer-Encoding: chunked\r\n" if self._chunks else ""
        if not caller.keeps:
            framing += "Connection: close\r\n"
        elif not caller.modern:
            framing += "Connection: keep-alive\r\n"
        self._head = (
            f"HTTP/1.1 {self.status} {_REASON.get(self.status, '')}\r\n{self._names}\r\n{more}{framing}"
            f"Date: {rfc822_formatted_time()}\r\n{caller.lines()}\r\n"
        ).encode("latin-1", "replace")

    async def send(self, data: bytes) -> None:
        """Write ``data``; waits where the caller does not keep up. Raises CallerGone."""
        if data:
            self._put(self._framed(data))
            if self._caller.paused:
                await self._drained()

    def finish(self, data: bytes = b"") -> None:
        """Write ``data`` and the end. Raises CallerGone."""
        end = b"0\r\n\r\n" if self._chunks else b""
        self._put(self._framed(data) + end if data else end)

    def cut(self, data: bytes = b"") -> None:
        """Write ``data`` without the end that the framing asks for: so it is seen to be cut. Raises CallerGone."""
        self._caller.keeps = False
        if data:
            self._put(self._framed(data))

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data

    def _put(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
        self._caller.put(data)

    async def _drained(self) -> None:
        try:
            async with asyncio.timeout(self.stall_seconds):
                await self._caller.drained()
        except TimeoutError:
            self._caller.abort()
            raise CallerGone from None
        except ConnectionError:
            raise CallerGone from None
