"""An upstream's answer out of its bytes: the head, and the body by its framing. Knows no socket.

HTTP/1.1 as in RFC 9112, strictly: what could be read in two ways is an error. A connection is used again only where
the answer's end is beyond doubt.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple

MAX_HEAD: Final = 64 * 1024
MAX_CHUNK_LINE: Final = 1024
MAX_TRAILERS: Final = 16 * 1024
MAX_INTERIM: Final = 16
"""So many heads of status 1xx may come before the answer's own."""
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n\0]*)?")
_FIELD: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\r\n\0]*+)")
"""Name and value of a head's line. It gives nothing back, so that no line takes it long."""
_KEPT_LINES: Final = 512
_KEPT_LINE: Final = 256
"""So many lines are known by sight, and so long ones: most of a vendor's head is what was in its last one."""
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_CRLF: Final = b"\r\n"


class FramingError(Exception):
    """What came is not an HTTP/1.1 answer, or not one that can be read in one way only."""


class Head(NamedTuple):
    """Status and headers, names in lower case; of a name that is there twice the values are joined."""

    status: int
    headers: Mapping[str, str]
    keep_alive: bool
    length: int | None
    chunked: bool


class AnswerReader:
    """Reads one answer. ``head`` is set once it is there, ``complete`` at the body's last byte."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.complete = False
        self.reusable = False
        self.started = False
        self._buffer = b""
        self._left = 0
        self._interim = 0
        self._chunks: ChunkReader | None = None

    def feed(self, data: bytes) -> bytes:
        """What ``data`` holds of the body; raises FramingError."""
        if self.complete:
            self.reusable = False
            return b""
        self.started = True
        head = self.head
        if head is None:
            head, data = self._read_head(data)
            if head is None or self.complete:
                return b""
        if self._chunks is not None:
            body = self._chunks.feed(data)
            if self._chunks.done:
                self._end(rest=self._chunks.rest)
            return body
        if head.length is None:
            return data
        body = data[: self._left]
        self._left -= len(body)
        if not self._left:
            self._end(rest=data[len(body) :])
        return body

    def eof(self) -> None:
        """The connection ended: the end of a body without framing, an error for any other."""
        if self.complete:
            return
        if self.head is not None and self.head.length is None and not self.head.chunked:
            self.complete = True
            return
        raise FramingError("the connection ended before the answer did")

    def _end(self, *, rest: bytes) -> None:
        self.complete = True
        self.reusable = self.head is not None and self.head.keep_alive and not rest

    def _read_head(self, data: bytes) -> tuple[Head | None, bytes]:
        """The head, once it is whole, and what came behind it."""
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MAX_HEAD:
                    raise FramingError("the head is too long")
                self._buffer = data
                return None, b""
            head = parse_head(data[:end])
            data = data[end + 4 :]
            if head.status == 101:
                raise FramingError("an upgrade was not asked for")
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise FramingError("there are too many heads before the answer's")
        self.head, self._buffer = head, b""
        if head.chunked:
            self._chunks = ChunkReader()
        elif head.length is not None:
            self._left = head.length
            if head.length == 0:
                self._end(rest=data)
        return head, data


def parse_head(text: bytes) -> Head:
    """The head in ``text``, without its empty line; raises FramingError."""
    if len(text) > MAX_HEAD:
        raise FramingError("the head is too long")
    first, *lines = text.split(_CRLF)
    status_line = _STATUS.fullmatch(first)
    if status_line is None:
        raise FramingError("the status line is malformed")
    fields = [_known_field(line) if len(line) <= _KEPT_LINE else _field(line) for line in lines]
    headers = dict(fields)
    if len(headers) != len(fields):
        headers = _joined(fields)
    return _framed(int(status_line[2]), headers, old=status_line[1] == b"0")


def _field(line: bytes) -> tuple[str, str]:
    """Name, in lower case, and value of a line; raises FramingError."""
    found = _FIELD.fullmatch(line.decode("latin-1"))
    if found is None:
        raise FramingError("a header line is malformed")
    return found[1].lower(), found[2].rstrip(" \t")


_known_field: Final = lru_cache(_KEPT_LINES)(_field)


def _joined(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    return {name: ", ".join(several) for name, several in values.items()}


def _framed(status: int, headers: dict[str, str], *, old: bool) -> Head:
    keep_alive = _keeps(headers.get("connection", ""), old=old)
    if status < 200 or status in (204, 304):
        return Head(status, headers, keep_alive, 0, False)
    encoding, length_text = headers.get("transfer-encoding"), headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked" or old or length_text is not None:
            raise FramingError("the body's framing can be read in two ways")
        return Head(status, headers, keep_alive, None, True)
    if length_text is None:
        return Head(status, headers, False, None, False)
    length = length_text
    if "," in length_text:
        lengths = {text.strip() for text in length_text.split(",")}
        length = lengths.pop() if len(lengths) == 1 else ""
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise FramingError("the body's length is malformed")
    return Head(status, headers, keep_alive, int(length), False)


def _keeps(connection: str, *, old: bool) -> bool:
    if connection in ("", "keep-alive", "close"):
        return connection == "keep-alive" if old else connection != "close"
    tokens = {token.strip().lower() for token in connection.split(",")}
    return "keep-alive" in tokens if old else "close" not in tokens


class ChunkReader:
    """The body out of the chunked transfer coding, fed in pieces of any size."""

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._buffer = b""
        self._left = 0
        self._trailers = -1

    def feed(self, data: bytes) -> bytes:
        """What ``data`` holds of the body; raises FramingError."""
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        out: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                out.append(piece)
                at += len(piece)
                self._left -= len(piece)
            elif self._left:
                at = self._chunk_end(data, at)
            else:
                end = data.find(_CRLF, at)
                if end < 0:
                    self._keep(data[at:])
                    at = len(data)
                else:
                    self._line(data[at:end])
                    at = end + 2
        self.rest = data[at:] if self.done else b""
        return out[0] if len(out) == 1 else b"".join(out)

    def _chunk_end(self, data: bytes, at: int) -> int:
        """Past what is here of the line end behind a chunk's data."""
        expected = _CRLF[2 - self._left :]
        found = data[at : at + len(expected)]
        if not expected.startswith(found):
            raise FramingError("a chunk is longer than it says")
        self._left -= len(found)
        return at + len(found)

    def _line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS:
                raise FramingError("the trailers are too long")
            self.done = not line
            return
        size = _SIZE.fullmatch(line)
        if size is None or len(line) > MAX_CHUNK_LINE:
            raise FramingError("a chunk's size is malformed")
        length = int(size[1], 16)
        if length:
            self._left = length + 2
        else:
            self._trailers = 0

    def _keep(self, rest: bytes) -> None:
        if len(rest) > MAX_CHUNK_LINE or b"\n" in rest:
            raise FramingError("a chunk's size is malformed")
        self._buffer = rest
