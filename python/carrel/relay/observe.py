"""What an answer says on its way through: its usage, its tool calls, its end. Bytes pass as they came.

A quotation mark inside JSON text is escaped, so a member's name between bare quotation marks is one: whatever holds
none of the names looked for passes unparsed. Which names these are, and what follows from them, each dialect says.
"""

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic_core import from_json

from carrel.declare.rate_card import Tier, TokenCounts
from carrel.errors import UpstreamError
from carrel.relay.said import KEPT, tokens_in
from carrel.wire.usage import tier_of

MAX_EVENT: Final = 16 << 20
Mark = tuple[bytes, re.Pattern[bytes] | None]
"""Searched for as it is, which is many times faster than a pattern; the pattern then looks at what follows."""
Marks = tuple[Mark, ...]
USAGE: Final[Mark] = (b'"usage"', re.compile(rb"\s*:\s*\{"))
ERROR: Final[Mark] = (b'"error"', re.compile(rb"\s*:\s*[{\"]"))
DONE: Final[Mark] = (b"[DONE]", None)
TIER: Final[Mark] = (b'"service_tier"', None)
_LAST: Final = b"\n\ndata: [DONE]\n\n"
"""What a stream ends with, as nearly every vendor writes it: an event of its own, for in JSON there is no line end."""
_BOUNDARY: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_LINES: Final = re.compile(r"\r\n|\n|\r")
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?=\{)')
_TIER: Final = re.compile(rb'"service_tier"\s*:\s*"([a-z_]{1,32})"')
_DECODER: Final = json.JSONDecoder()


@dataclass(slots=True)
class Seen:
    """What was seen of an answer. ``counts`` is None where the vendor has not said.

    ``open_ended``: it has said so for the input, and the output's count is still to come. ``served`` is the tier that
    it says it serves the call at, for an answer that ends before its counts.
    """

    counts: TokenCounts | None = None
    tool_calls: int = 0
    error: bool = False
    open_ended: bool = False
    served: Tier | None = None

    @property
    def whole(self) -> bool:
        """Whether the vendor has counted all of the answer."""
        counts = self.counts
        return counts is not None and not self.open_ended and bool(counts.output or counts.reasoning)


class StreamObserver(ABC):
    """Watches a stream of server-sent events. `feed` gives what may be passed on: whole events, all but the end."""

    marks: ClassVar[Marks]
    last_marks: ClassVar[Marks] = ()
    """What of them still matters where the stream's own end is there too; none: all of them do."""
    text: ClassVar[re.Pattern[bytes]]
    """What finds the text in its events, each piece of it once."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.done = False
        self.finished = False
        self.held = b""
        self._tail = b""
        self._kept: list[bytes] = []
        self._bytes = 0
        self._bytes_kept = 0

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
        self._bytes += len(block)
        if self._bytes_kept < KEPT:
            self._kept.append(block)
            self._bytes_kept += len(block)
        marks = self.last_marks or self.marks if block.endswith(_LAST) else self.marks
        places = _marked_places(block, marks)
        return self._marked(block, places) if places else block

    def finish(self) -> bytes:
        """The stream ended in good order: what is left of it."""
        if self.done or not self._tail.strip():
            return b""
        last, self._tail = self._tail, b""
        return self._event(last)

    def estimated_output(self) -> int:
        """About how many tokens have passed: by the text that is in the events, not by their frames.

        One at least, unless the vendor counted something: then there may be none.
        """
        if not self._bytes:
            return 0
        kept = b"".join(self._kept)
        self._look_back(kept)
        counted = self.seen.counts is not None and not self.seen.open_ended
        said = tokens_in(kept, self._bytes, self.text, stream=True, counted=counted)
        return said if counted else max(said, 1)

    def _look_back(self, kept: bytes) -> None:  # noqa: B027 - most dialects have nothing there
        """Note what the first events of a stream say, where its last ones did not come to say it."""

    def _marked(self, block: bytes, places: list[int]) -> bytes:
        """Look at the events of ``block`` that hold a mark, and let the others pass."""
        if b"\r" in block:
            return self._each(block)
        out: list[bytes] = []
        at = 0
        for place in places:
            if place < at:
                continue
            boundary = block.rfind(b"\n\n", at, place)
            start = at if boundary < 0 else boundary + 2
            if start > at:
                out.append(block[at:start])
            at = block.index(b"\n\n", place) + 2
            out.append(self._read(block[start:at]))
            if self.done:
                return b"".join(out)
        if at < len(block):
            out.append(block[at:])
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
        return self._read(event) if _marked_places(event, self.marks) else event

    def _read(self, event: bytes) -> bytes:
        """Look at an event that holds a mark; what of it may be passed on."""
        payload = payload_of(event)
        if payload.strip() == "[DONE]":
            return self._hold(event)
        try:
            record = _loaded(payload)
        except (ValueError, RecursionError):
            return event
        if not isinstance(record, dict):
            return event
        return self._record(record, event)

    @abstractmethod
    def _record(self, record: dict[str, Any], event: bytes) -> bytes:
        """Note what ``record`` says; what of its ``event`` may be passed on."""

    def _hold(self, event: bytes) -> bytes:
        """The end: kept until the call's row is written."""
        self.done = self.finished = True
        self.held = event
        return b""


def record_in(body: bytes) -> dict[str, Any]:
    """A whole answer as an object; empty where it is none."""
    try:
        record = _loaded(body)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _loaded(text: bytes | str) -> Any:
    """The JSON value in ``text``; what the fast parser refuses, half a surrogate pair say, the lenient one reads."""
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)


def usage_in_ends(front: bytes, back: bytes) -> dict[str, Any] | None:
    """The usage object in the two ends of an answer that is too long to be read whole: vendors put it there."""
    for part in (back, front):
        for match in reversed(list(_USAGE.finditer(part))):
            try:
                usage, _ = _DECODER.raw_decode(part[match.end() :].decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            if isinstance(usage, dict) and usage:
                return usage
    return None


def tier_at_front(front: bytes) -> Tier | None:
    """The tier that the first of a stream's events to name one says, None where none does."""
    found = _TIER.search(front)
    return None if found is None else tier_of({"service_tier": found[1].decode()})


def tier_in_ends(front: bytes, back: bytes, *, asked: Tier | None) -> Tier | None:
    """The tier named in the two ends of an answer that is too long to be read whole, None where none is.

    A caller's own members, which some vendors say back, may be called so too: what is dearest holds, and the cheaper
    tier only for who asked for it.
    """
    found = {tier_of({"service_tier": name.decode()}) for part in (front, back) for name in _TIER.findall(part)}
    if "priority" in found or "standard" in found:
        return "priority" if "priority" in found else "standard"
    return "batch" if "batch" in found and asked == "batch" else None


def _marked_places(block: bytes, marks: Marks) -> list[int]:
    """Where ``block`` holds something to look at."""
    found: list[int] = []
    for literal, then in marks:
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
        end = data.rfind(b"\n\n")
        return end + 2 if end >= 0 else 0
    end = 0
    for boundary in _BOUNDARY.finditer(data):
        end = boundary.end()
    return end


def payload_of(event: bytes) -> str:
    """The data of an event."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.count(b"\n") == 2 and b"\r" not in event:
        # One line of data, as nearly every vendor writes an event.
        return event[6:-2].decode("utf-8", "replace")
    lines = _LINES.split(event.decode("utf-8", "replace").removeprefix("\ufeff"))
    return "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
