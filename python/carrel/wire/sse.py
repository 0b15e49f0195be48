"""Server-sent events, both ways: bytes in and events out, split anywhere, and back to bytes.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html. Knows nothing of sockets or vendors.
"""

import re
from dataclasses import dataclass
from typing import Final

from carrel.errors import UpstreamError

CONTENT_TYPE: Final = "text/event-stream"
MAX_EVENT_BYTES: Final = 16 * 1024 * 1024
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BREAK: Final = re.compile(r"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = 0x0A


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. ``event`` is ``message`` where the stream named none; ``retry`` is in milliseconds."""

    data: str
    event: str = "message"
    id: str | None = None
    retry: int | None = None


class SseDecoder:
    """Turns the bytes of a stream into events as they come complete.

    Raises UpstreamError where one event (or one unfinished line) is over ``max_event_bytes``: nothing that a server
    sends without end is kept without end.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line = bytearray()
        self._skip_lf = False
        self._head: bytes | None = b""
        self._data: list[str] = []
        self._size = 0
        self._event = ""
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """The events that ``chunk`` completes."""
        if self._head is not None:
            chunk = self._without_bom(self._head + chunk)
        events: list[ServerSentEvent] = []
        start = 1 if self._skip_lf and chunk[:1] == b"\n" else 0
        if chunk:
            self._skip_lf = False
        for match in _LINE_END.finditer(chunk, start):
            self._line += chunk[start : match.start()]
            self._check()
            event = self._take_line()
            if event is not None:
                events.append(event)
            start = match.end()
        self._line += chunk[start:]
        self._check()
        self._skip_lf = chunk[-1:] == b"\r"
        return events

    def finish(self) -> list[ServerSentEvent]:
        """What the end of the stream completes: an event whose closing blank line is missing, never half a line.

        A browser drops such an event; model servers leave the blank line out after their last one, so it is given.
        """
        self._line.clear()
        event = self._dispatch()
        return [] if event is None else [event]

    def _without_bom(self, head: bytes) -> bytes:
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _check(self) -> None:
        if len(self._line) + self._size > self._max:
            raise UpstreamError(
                f"The stream holds an event over {self._max} bytes; it was cut.", details={"reason": "event_too_large"}
            )

    def _take_line(self) -> ServerSentEvent | None:
        if not self._line:
            return self._dispatch()
        line = self._line.decode("utf-8", "replace")
        size = len(self._line)
        self._line.clear()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
                self._size += size
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self._retry = int(value[:9])
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event, retry = self._data, self._event, self._retry
        self._data, self._event, self._retry, self._size = [], "", None, 0
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self._id, retry)


def encode(data: str, *, event: str | None = None, id: str | None = None) -> bytes:  # noqa: A002 - the field's name
    """One event as bytes. Line breaks in ``data`` become several data lines; ``event`` and ``id`` may hold none.

    ``data`` is JSON: half a surrogate pair, which a vendor may send as the end of a piece, is escaped as it was there.
    """
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if _BREAK.search(value) or "\0" in value:
                raise ValueError(f"a server-sent event's {name} is one line")
            lines.append(f"{name}: {value}")
    lines += [f"data: {line}" for line in _BREAK.split(data)]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "backslashreplace")


def encode_comment(text: str = "") -> bytes:
    """A comment, which readers skip: it keeps a quiet connection open."""
    return "".join(f": {line}\n" for line in _BREAK.split(text)).encode() + b"\n"
