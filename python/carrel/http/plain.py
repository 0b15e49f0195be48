"""Requests that can be read in one way only, out of their bytes: how long they are, and what their plain heads say.

No parser of HTTP: whatever is not wholly plain is not read here at all, and goes to the one that is. Knows no socket.
"""

import re
from typing import Final, NamedTuple

from carrel.http.auth import bearer_in

MAX_HEAD: Final = 8 * 1024
KEPT_HEAD: Final = 2 * 1024
"""The longest head that a connection remembers: whoever opens many of them takes no more than this with each."""
_HEAD: Final = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[!-~]{0,2047}) HTTP/1\.1\r\n"
    rb"(?:[A-Za-z][A-Za-z0-9-]{0,63}: [!-~]+(?: +[!-~]+)*\r\n){1,64}"
)
"""One space behind the colon, none at the end, visible ASCII between: no folded line, no bare line end, no NUL."""
_FIELD: Final = re.compile(r"([^:\r\n]+): ([^\r\n]+)")
"""Name and value out of a line that `_HEAD` has found plain."""
_LENGTH: Final = re.compile(r"0|[1-9][0-9]{0,14}")
_LENGTH_LINE: Final = re.compile(rb"\r\ncontent-length: ([0-9]+)(?=\r\n)", re.IGNORECASE)
_ODD: Final = frozenset({
    "transfer-encoding", "content-encoding", "expect", "upgrade", "http2-settings", "te", "trailer",
    "proxy-connection",
})  # fmt: skip
"""What makes a request one of a special kind."""


class PlainHead(NamedTuple):
    """A plain head. ``size`` is its own length, ``length`` its body's, in bytes; what was not given is empty.

    ``credential`` is what Authorization holds, as `auth.bearer_in` reads it.
    """

    method: str
    target: str
    host: str
    credential: str
    request_id: str
    size: int
    length: int
    trace_parent: str = ""

    @property
    def total(self) -> int:
        """Where the request ends."""
        return self.size + self.length


def plain_head(data: bytes) -> PlainHead | None:
    """The head that ``data`` begins with; None where it is not all there, not plain, or names anything twice."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEAD)
    if end < 0:
        return None
    line = _HEAD.fullmatch(data, 0, end + 2)
    if line is None:
        return None
    lines = _FIELD.findall(data[line.end(2) + len(b" HTTP/1.1\r\n") : end].decode("ascii"))
    fields = {name.lower(): value for name, value in lines}
    if len(fields) != len(lines) or not _ODD.isdisjoint(fields) or "host" not in fields:
        return None
    connection = fields.get("connection")
    if connection is not None and connection.lower() != "keep-alive":
        return None
    length = fields.get("content-length", "0")
    if _LENGTH.fullmatch(length) is None:
        return None
    return PlainHead(
        line[1].decode("ascii"), line[2].decode("ascii"), fields["host"], bearer_in(fields.get("authorization", "")),
        fields.get("x-request-id", ""), end + 4, int(length), fields.get("traceparent", ""),
    )  # fmt: skip


class Heads:
    """Reads the heads of one connection, each as `plain_head` does.

    A client sends the same head again and again: one that differs from the last in the body's length alone, byte for
    byte, needs no second reading.
    """

    __slots__ = ("_back", "_digits", "_front", "_last")

    def __init__(self) -> None:
        self._last: PlainHead | None = None
        self._front = b""
        self._digits = b""
        self._back = b""

    def read(self, data: bytes) -> PlainHead | None:
        """See `plain_head`."""
        last = self._last
        if last is not None and data.startswith(self._front):
            at = len(self._front)
            end = data.find(b"\r", at, at + 16)
            if end > at and data.startswith(self._back, end):
                digits = data[at:end]
                if digits == self._digits:
                    return last
                if _LENGTH.fullmatch(digits.decode("latin-1")) is not None:
                    return last._replace(size=end + len(self._back), length=int(digits))
        head = plain_head(data)
        if head is not None:
            self._keep(head, data[: head.size])
        return head

    def _keep(self, head: PlainHead, data: bytes) -> None:
        line = _LENGTH_LINE.search(data) if len(data) <= KEPT_HEAD else None
        if line is None:
            self._last = None
            self._front = self._digits = self._back = b""
            return
        self._last = head
        self._front, self._digits, self._back = data[: line.start(1)], line[1], data[line.end(1) :]
