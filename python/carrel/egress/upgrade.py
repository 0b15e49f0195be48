"""A request that becomes a WebSocket (RFC 6455): once both sides have agreed on one, its bytes are passed on unread.

No other protocol is agreed on. What HTTP could go on as (`h2c`) would carry requests that nobody judges.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import socket
import ssl
from typing import Final

from aiohttp import web

from carrel.egress.tunnel import IDLE_SECONDS
from carrel.errors import UpstreamError
from carrel.wire.scrub import Scrubber

AGREE_SECONDS: Final = 30.0
MOST_HEAD: Final = 64 << 10
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?\r\n")


_ACCEPT: Final = re.compile(rb"\r\nSec-WebSocket-Accept:[ \t]*([A-Za-z0-9+/=]+)[ \t]*\r\n", re.IGNORECASE)
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def is_websocket(request: web.BaseRequest) -> bool:
    """Whether a WebSocket is asked for; any other Upgrade is a wish, which a proxy need not pass on."""
    return (
        request.method == "GET"
        and not request.can_read_body
        and request.headers.get("Upgrade", "").strip().lower() == "websocket"
        and len(request.headers.getall("Sec-WebSocket-Key", [])) == 1
    )


def _agrees(answer: bytes, key: str) -> bool:
    """Whether a host's answer proves that it speaks WebSocket, and took this very request for one."""
    found = _ACCEPT.findall(answer)
    wanted = base64.b64encode(hashlib.sha1((key.strip() + _GUID).encode()).digest())  # noqa: S324 - the protocol's own
    return len(found) == 1 and hmac.compare_digest(found[0], wanted)


class _Incoming:
    """Takes what the client says from here on, in the place of aiohttp's own parser."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Pass a piece on."""
        self._writer.write(data)
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone."""
        self._writer.close()


async def upgraded(
    request: web.BaseRequest,
    connected: socket.socket,
    head: bytes,
    *,
    tls: ssl.SSLContext | None,
    server_name: str,
    scrubber: Scrubber,
) -> web.StreamResponse:
    """Ask the host by ``head`` over ``connected``; where it agrees, join both until one ends. Raises UpstreamError.

    What comes back goes through ``scrubber``, which must keep lengths.
    """
    async with asyncio.timeout(AGREE_SECONDS):
        reader, writer = await asyncio.open_connection(
            sock=connected, ssl=tls, server_hostname=server_name if tls is not None else None, limit=MOST_HEAD
        )
    try:
        writer.write(head)
        try:
            async with asyncio.timeout(AGREE_SECONDS):
                answer = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
            raise UpstreamError("The host did not answer the request for another protocol.") from error
        found = _STATUS.match(answer)
        transport = request.transport
        if found is None or transport is None:
            raise UpstreamError("The host's answer is not HTTP.")
        if found[1] == b"101" and not _agrees(answer, request.headers["Sec-WebSocket-Key"]):
            raise UpstreamError("The host's answer is not that of a WebSocket.")
        agreed = _Agreed(status=int(found[1]))
        if found[1] != b"101":
            # A refusal is passed on with its end, which is the connection's.
            answer = _closing(answer)
        transport.write(scrubber.text(answer.decode("latin-1")).encode("latin-1", "replace"))
        if found[1] == b"101":
            request.protocol.set_parser(_Incoming(writer))  # type: ignore[arg-type] # all that it needs
        await _pass_back(reader, request, transport, scrubber)
        return agreed
    finally:
        writer.close()
        with contextlib.suppress(Exception):
            await writer.wait_closed()


async def _pass_back(
    reader: asyncio.StreamReader, request: web.BaseRequest, transport: asyncio.Transport, scrubber: Scrubber
) -> None:  # fmt: skip
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                piece = await reader.read(64 << 10)
        except (TimeoutError, OSError):
            break
        if not piece or transport.is_closing():
            break
        out = scrubber.feed(piece)
        if out:
            transport.write(out)
        if request.protocol.writing_paused:
            await request.writer.drain()
    transport.write(scrubber.finish())
    transport.close()


def _closing(answer: bytes) -> bytes:
    return re.sub(rb"\r\n[Cc]onnection:[^\r\n]*", b"", answer[:-2]) + b"Connection: close\r\n\r\n"


class _Agreed(web.StreamResponse):
    """An answer that is written already."""

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool | None:
        return False

    async def prepare(self, request: web.BaseRequest) -> None:
        """It is."""

    async def write_eof(self, data: bytes = b"") -> None:
        """It has ended."""
