"""What an answer says on its way through: its usage, its tool calls, its end. Bytes pass as they came.

A quotation mark inside JSON text is escaped, so a member's name between bare quotation marks is one: whatever holds
none of the names looked for passes unparsed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.policy.estimate import likely
from carrel.wire.usage import find_openai_usage, usage_from_openai

MAX_EVENT: Final = 16 << 20
# Searched for as they are, which is many times faster than a pattern; the pattern then looks at what follows.
_MARKS: Final = (
    (b'"usage"', re.compile(rb"\s*:\s*\{")),
    (b"[DONE]", None),
    (b'"tool_calls"', re.compile(rb"\s*:\s*\[")),
    (b'"error"', re.compile(rb"\s*:\s*[{\"]")),
    (b'"finish_reason":"', None),
    (b'"finish_reason": "', None),
)
_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_LINES: Final = re.compile(r"\r\n|\n|\r")
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_DECODER: Final = json.JSONDecoder()


@dataclass(slots=True)
class Seen:
    """What was seen of an answer. ``counts`` is None where the vendor has not said."""

    counts: TokenCounts | None = None
    tool_calls: int = 0
    error: bool = False

    def take_usage(self, record: Mapping[str, Any]) -> bool:
        """Note the usage in ``record``; whether there was one."""
        usage = find_openai_usage(record)
        if usage is None:
            return False
        self.counts = usage_from_openai(usage)
        return True


class StreamObserver:
    """Watches a stream of server-sent events. `feed` gives what may be passed on: whole events, all but the end.

    ``hide_usage``: the usage was asked for by us, and the event that holds nothing else is kept back.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        self.seen = Seen()
        self.done = False
        self.finished = False
        self.held = b""
        self._hide_usage = hide_usage
        self._tail = b""
        self._events = 0
        self._bytes = 0
        self._shortest = 1 << 30
        self._calls: set[tuple[int, int, str]] = set()

    def feed(self, data: bytes) -> bytes:
        """What of the bytes so far may be passed on now; raises UpstreamError for an event without end."""
        if self.done:
            return b""
        if self._tail:
            data = self._tail + data
        end = _last_boundary(data)
        if len(data) - end > MAX_EVENT:
            raise UpstreamError(f"The stream holds an event over {MAX_EVENT} bytes; it was cut.")
        block, self._tail = data[:end], data[end:]
        if not block:
            return b""
        marks = _marks(block)
        return self._marked(block, marks) if marks else self._plain(block)

    def finish(self) -> bytes:
        """The stream ended in good order: what is left of it."""
        if self.done or not self._tail.strip():
            return b""
        last, self._tail = self._tail, b""
        return self._event(last)

    def estimated_output(self) -> int:
        """About how many tokens have passed: one an event at least, or the text beyond the events' frames."""
        if not self._events:
            return 0
        return max(self._events, likely(self._bytes - self._events * self._shortest))

    def _plain(self, block: bytes) -> bytes:
        count = block.count(b"\n\n") or 1
        self._events += count
        self._bytes += len(block)
        self._shortest = min(self._shortest, len(block) // count)
        return block

    def _marked(self, block: bytes, marks: list[int]) -> bytes:
        """Look at the events of ``block`` that hold a mark, and let the others pass."""
        if b"\r" in block:
            return self._each(block)
        out: list[bytes] = []
        at = 0
        for mark in marks:
            if mark < at:
                continue
            boundary = block.rfind(b"\n\n", at, mark)
            start = at if boundary < 0 else boundary + 2
            if start > at:
                out.append(self._plain(block[at:start]))
            at = block.index(b"\n\n", mark) + 2
            out.append(self._event(block[start:at]))
            if self.done:
                return b"".join(out)
        if at < len(block):
            out.append(self._plain(block[at:]))
        return b"".join(out)

    def _each(self, block: bytes) -> bytes:
        out: list[bytes] = []
        at = 0
        for boundary in _BOUNDARY.finditer(block):
            event, at = block[at : boundary.end()], boundary.end()
            out.append(self._event(event))
            if self.done:
                break
        return b"".join(out)

    def _event(self, event: bytes) -> bytes:
        if not _marks(event):
            return self._plain(event)
        payload = _payload(event)
        if payload.strip() == "[DONE]":
            self.done = True
            self.held = event
            return b""
        try:
            record = json.loads(payload)
        except (ValueError, RecursionError):
            return self._plain(event)
        if not isinstance(record, dict):
            return self._plain(event)
        return self._record(record, event)

    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        has_usage = self.seen.take_usage(record)
        if record.get("error"):
            self.seen.error = True
        choices = record.get("choices")
        if not isinstance(choices, list) or not choices:
            if has_usage and self._hide_usage and not record.get("error"):
                return b""
            return event
        for choice in choices:
            if isinstance(choice, dict):
                self._choice(choice)
        return self._plain(event)

    def _choice(self, choice: dict[str, Any]) -> None:
        if choice.get("finish_reason"):
            self.finished = True
        delta = choice.get("delta")
        calls = delta.get("tool_calls") if isinstance(delta, dict) else None
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and function.get("name"):
                place = call.get("index")
                key = (_number(choice.get("index")), _number(place, position), str(call.get("id") or ""))
                if key not in self._calls and len(self._calls) < 10_000:
                    self._calls.add(key)
        self.seen.tool_calls = len(self._calls)


def seen_in(body: bytes) -> Seen:
    """What a whole answer says."""
    seen = Seen()
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return seen
    if not isinstance(record, dict):
        return seen
    seen.take_usage(record)
    seen.error = bool(record.get("error"))
    choices = record.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        seen.tool_calls += len(calls) if isinstance(calls, list) else 0
    return seen


def seen_in_ends(front: bytes, back: bytes) -> Seen:
    """What the two ends of an answer say that is too long to be read whole: vendors put its usage there."""
    seen = Seen()
    for part in (back, front):
        for match in reversed(list(_USAGE.finditer(part))):
            try:
                usage, _ = _DECODER.raw_decode(part[match.end() :].decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(usage, dict) and seen.take_usage({"usage": usage}):
                return seen
    return seen


def _marks(block: bytes) -> list[int]:
    """Where ``block`` holds something to look at."""
    found: list[int] = []
    for literal, then in _MARKS:
        at = block.find(literal)
        while at >= 0:
            end = at + len(literal)
            if then is None or then.match(block, end) is not None:
                found.append(at)
            at = block.find(literal, end)
    found.sort()
    return found


def _last_boundary(data: bytes) -> int:
    if b"\r" not in data:
        return data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0
    end = 0
    for boundary in _BOUNDARY.finditer(data):
        end = boundary.end()
    return end


def _payload(event: bytes) -> str:
    lines = _LINES.split(event.decode("utf-8", "replace").removeprefix("\ufeff"))
    return "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))


def _number(value: object, otherwise: int = 0) -> int:
    return value if isinstance(value, int) else otherwise
