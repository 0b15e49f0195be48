"""Secrets taken out of what comes back, wherever the borders of its pieces are."""

import base64
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import quote, quote_plus

from carrel.errors import UpstreamError

MAY_SHOW: Final = 3
"""Bytes of a secret's beginning that are not held back: a frame that ends in such a letter would wait for the next."""

PIECE: Final = 256 << 10
"""Bytes of a decompressed answer that are held at a time."""


def forms_of(value: str) -> tuple[bytes, ...]:
    """The forms in which an answer may say a secret back, the longest first."""
    raw = value.encode()
    forms = {raw, quote(value, safe="").encode(), quote_plus(value).encode(), json.dumps(value)[1:-1].encode()}
    for shift in range(3):
        # What of the secret's base64 does not depend on what stands around it, at each of the three positions.
        encoded = base64.b64encode(b"\0" * shift + raw)
        core = encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4] if len(raw) > 6 else b""
        forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return tuple(sorted((form for form in forms if len(form) >= 6 or form == raw), key=len, reverse=True))


class Scrubber:
    """Replaces each key of ``marks`` in a stream by its value. ``feed`` holds back what may be the start of one.

    Of one that is cut within its first `MAY_SHOW` bytes, those pass, and what follows does not.
    """

    def __init__(self, marks: Mapping[bytes, bytes]) -> None:
        self._marks = {form: mark for form, mark in marks.items() if form}
        self._forms = tuple(sorted(self._marks, key=len, reverse=True))
        self._found = re.compile(b"|".join(map(re.escape, self._forms))) if self._forms else None
        self._most = max(map(len, self._forms), default=1) - 1
        self._shown = b""
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of the stream can be told by now."""
        if self._found is None:
            return data
        whole, told = self._shown + self._held + data, len(self._shown)
        out: list[bytes] = []
        ended = 0
        for found in self._found.finditer(whole):
            out.append(whole[max(told, ended) : found.start()])
            mark = self._marks[found[0]]
            # Where lengths count, what was shown of it already is no part of its mark any more.
            cut = max(0, told - found.start()) if len(mark) == len(found[0]) else 0
            out.append(mark[cut:])
            ended = found.end()
        keep = self._might_begin(whole[ended:])
        border = len(whole) - keep
        if keep <= MAY_SHOW:
            out.append(whole[max(told, ended) :])
            self._shown, self._held = whole[border:], b""
        else:
            shown = max(told, border) if told > border else border
            out.append(whole[max(told, ended) : shown])
            self._shown, self._held = whole[border:shown], whole[shown:]
        return b"".join(out)

    def finish(self) -> bytes:
        """The rest, when nothing more comes."""
        held, self._held, self._shown = self._held, b"", b""
        return held

    def text(self, text: str) -> str:
        """``text``, a header's value, without any."""
        if self._found is None:
            return text
        return self._found.sub(self._marked, text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def _marked(self, found: "re.Match[bytes]") -> bytes:
        return self._marks[found[0]]

    def _might_begin(self, data: bytes) -> int:
        """How many of the last bytes are the start of a form."""
        for count in range(min(self._most, len(data)), 0, -1):
            tail = data[-count:]
            if any(form.startswith(tail) for form in self._forms):
                return count
        return 0


class Decoder(Protocol):
    """Undoes an encoding piece by piece. Both raise UpstreamError for what is not encoded so."""

    def decoded(self, data: bytes, /) -> Iterator[bytes]:
        """What ``data`` comes to, in pieces of a bounded size however small it was."""
        ...

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        ...


class _Plain:
    def decoded(self, data: bytes, /) -> Iterator[bytes]:
        yield data

    def rest(self) -> bytes:
        return b""


class _Inflated:
    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._inner = zlib.decompressobj(wbits)

    def decoded(self, data: bytes, /) -> Iterator[bytes]:
        while data:
            try:
                piece = self._inner.decompress(data, PIECE)
            except zlib.error as error:
                raise UpstreamError("The host's answer is not compressed as it says.") from error
            data = self._inner.unconsumed_tail
            if self._inner.eof and self._inner.unused_data:
                # Several of them one after the other are one content.
                data = self._inner.unused_data
                self._inner = zlib.decompressobj(self._wbits)
            if piece:
                yield piece

    def rest(self) -> bytes:
        if not self._inner.eof:
            raise UpstreamError("The host's compressed answer has no end.")
        return b""


def decoder_of(encodings: Sequence[str]) -> Decoder:
    """What undoes the Content-Encoding of an answer; raises UpstreamError for one that is not known."""
    named = [name.strip().lower() for field in encodings for name in field.split(",")]
    match [name for name in named if name not in ("", "identity")]:
        case []:
            return _Plain()
        case ["gzip" | "x-gzip"]:
            return _Inflated(16 + zlib.MAX_WBITS)
        case ["deflate"]:
            return _Inflated(zlib.MAX_WBITS)
    raise UpstreamError("The host compressed its answer in a way that it was not asked for.")
