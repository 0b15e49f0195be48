"""The answer to the caller, in as few writes as it has pieces: the head goes with the first, framing with its data."""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion10, HttpVersion11

from carrel.ids import RequestId

STALL_SECONDS: Final = 60.0
"""How long a caller may take nothing of what waits for it."""


class CallerGone(Exception):
    """The caller went away, or reads nothing."""


class Answer(web.StreamResponse):
    """An answer that writes itself to the connection. aiohttp is told that all is done.

    `begin` it, then `send` and `finish`, or `cut` it; before the first of those nothing is written, and an error can
    still be answered in its place.
    """

    def __init__(self, *, status: int, content_type: str, request_id: RequestId, provider_request_id: str) -> None:
        super().__init__(status=status)
        self.headers["Content-Type"] = content_type
        self.headers["X-Request-Id"] = request_id
        if provider_request_id:
            self.headers["X-Provider-Request-Id"] = provider_request_id
        self.stall_seconds = STALL_SECONDS
        self._request: web.BaseRequest | None = None
        self._head = b""
        self._chunks = False
        self._keeps = False
        self._over = False

    @property
    def started(self) -> bool:
        """Whether anything was written."""
        return self._request is not None and not self._head

    @property
    def prepared(self) -> bool:
        return self._request is not None

    @property
    def keep_alive(self) -> bool | None:
        return self._keeps

    def force_close(self) -> None:
        self._keeps = False

    async def begin(self, request: web.BaseRequest, *, length: int | None = None) -> None:
        """Make the head. ``length`` is the body's, None where it is not known."""
        headers = self.headers
        self._chunks = length is None and request.version >= HttpVersion11
        self._keeps = request.keep_alive and (self._chunks or length is not None)
        if length is not None:
            headers["Content-Length"] = str(length)
        elif self._chunks:
            headers["Transfer-Encoding"] = "chunked"
        headers["Date"] = rfc822_formatted_time()
        if not self._keeps:
            headers["Connection"] = "close"
        elif request.version == HttpVersion10:
            headers["Connection"] = "keep-alive"
        # What every answer of the server gets: the hook that aiohttp's own responses call at this place.
        await request._prepare_hook(self)  # noqa: SLF001 - there is no public way to it
        self._request = request
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        self._head = f"HTTP/1.1 {self.status} {self.reason}\r\n{lines}\r\n".encode("latin-1", "replace")

    async def send(self, data: bytes) -> None:
        """Write ``data``; waits where the caller does not keep up. Raises CallerGone."""
        if data:
            self._write(self._framed(data))
            request = self._request
            if request is not None and request.protocol.writing_paused:
                await self._drained(request)

    async def finish(self, data: bytes = b"") -> None:
        """Write ``data`` and the end. Raises CallerGone."""
        end = b"0\r\n\r\n" if self._chunks else b""
        self._over = True
        self._write(self._framed(data) + end if data else end)

    def cut(self, data: bytes = b"") -> None:
        """Write ``data`` and close without the end that the framing asks for: so the caller sees that there is none."""
        self._over = True
        self._keeps = False
        if data:
            self._write(self._framed(data))

    async def prepare(self, request: web.BaseRequest) -> None:
        if self._request is None:
            raise RuntimeError("an answer is returned that was not begun")

    async def write_eof(self, data: bytes = b"") -> None:
        if not self._over:
            raise RuntimeError("an answer is returned that was not finished")
        request = self._request
        if request is not None and request.protocol.writing_paused:
            await request.writer.drain()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data

    def _write(self, data: bytes) -> None:
        request = self._request
        transport = request.transport if request is not None else None
        if request is None or transport is None or transport.is_closing():
            self._keeps = False
            raise CallerGone
        if self._head:
            data = self._head + data
            self._head = b""
        request.writer.output_size += len(data)
        transport.write(data)

    async def _drained(self, request: web.BaseRequest) -> None:
        try:
            async with asyncio.timeout(self.stall_seconds):
                await request.writer.drain()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise CallerGone from None
        except ConnectionError:
            raise CallerGone from None
