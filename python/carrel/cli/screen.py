"""What is shown: cleaned of everything that could act on a terminal, in columns or as JSON.

What models, tools and other people wrote is not trusted: escape sequences and control characters never reach the
terminal, nor a pipe that may end in one.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

# ECMA-48: CSI sequences; strings (OSC, DCS, SOS, PM, APC) up to their end; other escapes of two or more characters.
_SEQUENCE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[\x20-\x2f]*[\x30-\x4f\x51-\x57\x59\x5a\x5c\x60-\x7e]"
)
_BEGINNING: Final = re.compile(
    r"(?:(?:\x1b\[|\x9b)[\x30-\x3f]*[\x20-\x2f]*"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*\x1b?"
    r"|\x1b[\x20-\x2f]*)\Z"
)
_MAX_HELD: Final = 4096
_CONTROLS: Final = {
    code: None
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code not in (0x09, 0x0A)
}
_JSON_UNSAFE: Final = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}
_LONE_SURROGATES: Final = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """``text`` without escape sequences, control characters (but newline and tab) and overrides of direction."""
    if text.isascii() and text.isprintable():
        return text
    return _LONE_SURROGATES.sub("\ufffd", _SEQUENCE.sub("", text).translate(_CONTROLS))


def one_line(text: str) -> str:
    """``text``, cleaned, with every run of white space as one space."""
    return " ".join(clean(text).split())


def many(count: int, thing: str) -> str:
    """``count`` and what it counts: `1 session`, `2 sessions`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


class Cleaner:
    """Cleans text that comes in pieces: a sequence that is cut between two of them is still found."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What of ``piece`` and of what was held before may be shown now."""
        text = self._held + piece
        begun = _BEGINNING.search(text)
        # No sequence is that long: such a beginning was none, and goes with the other control characters.
        cut = begun.start() if begun is not None and len(text) - begun.start() <= _MAX_HELD else len(text)
        self._held = text[cut:]
        return clean(text[:cut])

    def finish(self) -> str:
        """The rest, when nothing more comes."""
        rest, self._held = self._held, ""
        return clean(rest)


def names(found: Sequence[str], most: int = 20) -> str:
    """Names in one line, and how many more there are."""
    more = f", and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(map(one_line, found[:most])) + more


def write(text: str) -> None:
    """Write ``text``, cleaned, and flush, so that it is seen as it comes."""
    sys.stdout.write(clean(text))
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Write a line, cleaned."""
    write(text + "\n")


def note(text: str) -> None:
    """Write a line, cleaned, to standard error: what a person should see and a pipe should not get."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def complain(text: str) -> None:
    """Write an error, cleaned, to standard error, after the program's name."""
    sys.stderr.write(f"{styled('carrel:', '31', stream=sys.stderr)} {clean(text)}\n")
    sys.stderr.flush()


def show_json(document: Any, *, indent: int | None = 2, out: TextIO | None = None) -> None:
    """Write ``document`` as JSON: the same values, with nothing in the text that could act on a terminal."""
    text = json.dumps(document, indent=indent, ensure_ascii=False, default=str)
    stream = out if out is not None else sys.stdout
    stream.write(_escaped(text) + "\n")
    stream.flush()


def _escaped(text: str) -> str:
    return _LONE_SURROGATES.sub(lambda m: f"\\u{ord(m.group()):04x}", text.translate(_JSON_UNSAFE))


def wants_colour(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal, and neither NO_COLOR nor a dumb terminal asks for none."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, *, stream: TextIO | None = None) -> str:
    """``text`` with a terminal's ``style`` (an SGR code) where ``stream`` is a terminal that is to have colour."""
    return f"\x1b[{style}m{text}\x1b[0m" if wants_colour(stream or sys.stdout) else text


def table(headings: Sequence[str], rows: Iterable[Sequence[str | None]]) -> None:
    """Write columns as wide as they need to be; nothing is cut, so that a pipe gets all of it."""
    cells = [[one_line(cell) if cell else "-" for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(headings, *cells, strict=True)]
    lines = [_line(headings, widths)] + [_line(row, widths) for row in cells]
    sys.stdout.write(styled(lines[0], "1") + "\n" + "".join(f"{line}\n" for line in lines[1:]))
    sys.stdout.flush()


def facts(lines: Mapping[str, str | None]) -> None:
    """Write a line for each thing that has a value, its name before it."""
    width = max(map(len, lines), default=0)
    for name, value in lines.items():
        if value:
            say(f"{name:<{width}}  {one_line(value)}")


def moment(when: datetime | None) -> str | None:
    """``when`` to the minute, in UTC."""
    return None if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only for wide characters

    return cell_len(text)
