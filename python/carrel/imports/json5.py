"""JSON5 (https://spec.json5.org/), as people write settings in it, into plain Python values. Pure.

Bounded in depth; a key that is there twice is an error, as everywhere here. ``Infinity`` and ``NaN`` are refused: no
setting means them.
"""

import math
import re
from typing import Any, Final

from carrel.errors import InvalidRequest

MOST_DEPTH: Final = 64
_SPACE: Final = re.compile(r"(?:[\s\ufeff]|//[^\n\r\u2028\u2029]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
_NAME: Final = re.compile(r"[^\W\d][\w$\u200c\u200d]*|[$_][\w$\u200c\u200d]*")
_WORDS: Final = {"true": True, "false": False, "null": None}
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}


def parse(text: str) -> Any:
    """The value in ``text``; raises InvalidRequest with line and column."""
    reader = _Reader(text)
    value = reader.value(0)
    reader.space()
    if reader.at < len(text):
        raise reader.wrong("something follows the end")
    return value


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def wrong(self, what: str) -> InvalidRequest:
        line = self.text.count("\n", 0, self.at) + 1
        column = self.at - self.text.rfind("\n", 0, self.at)
        return InvalidRequest(f"line {line}, column {column}: {what}")

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def peek(self) -> str:
        self.space()
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise self.wrong(f"it is over {MOST_DEPTH} levels deep")
        match self.peek():
            case "{":
                return self.object(depth)
            case "[":
                return self.array(depth)
            case '"' | "'":
                return self.string()
            case "":
                raise self.wrong("the text ends where a value should be")
        number = _NUMBER.match(self.text, self.at)
        if number:
            return self.number(number)
        name = _NAME.match(self.text, self.at)
        if name and name[0] in _WORDS:
            self.at = name.end()
            return _WORDS[name[0]]
        raise self.wrong("this is no value")

    def number(self, found: re.Match[str]) -> int | float:
        self.at = found.end()
        text = found[0]
        if "x" in text or "X" in text:
            return int(text, 16)
        if re.fullmatch(r"[+-]?\d{1,30}", text):
            return int(text)
        if math.isinf(float(text)):
            raise self.wrong("a number is too large")
        return float(text)

    def object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        found: dict[str, Any] = {}
        while self.peek() != "}":
            key = self.key()
            if key in found:
                raise self.wrong(f"the key {key[:64]!r} is there twice")
            if self.peek() != ":":
                raise self.wrong("a colon is missing")
            self.at += 1
            found[key] = self.value(depth + 1)
            self.comma("}")
        self.at += 1
        return found

    def array(self, depth: int) -> list[Any]:
        self.at += 1
        found: list[Any] = []
        while self.peek() != "]":
            found.append(self.value(depth + 1))
            self.comma("]")
        self.at += 1
        return found

    def comma(self, end: str) -> None:
        if self.peek() == ",":
            self.at += 1
        elif self.peek() != end:
            raise self.wrong(f"a comma or {end!r} is missing")

    def key(self) -> str:
        if self.peek() in ('"', "'"):
            return self.string()
        name = _NAME.match(self.text, self.at)
        if not name:
            raise self.wrong("a key is missing")
        self.at = name.end()
        return name[0]

    def string(self) -> str:
        quote, pieces = self.text[self.at], []
        self.at += 1
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] not in (quote, "\\", "\n", "\r"):
                end += 1
            pieces.append(self.text[self.at : end])
            self.at = end
            if end >= len(self.text) or self.text[end] in "\n\r":
                raise self.wrong("a text has no end")
            self.at += 1
            if self.text[end] == quote:
                return "".join(pieces)
            pieces.append(self.escape())

    def escape(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        width = {"x": 2, "u": 4}.get(letter)
        if width is not None:
            digits = self.text[self.at : self.at + width]
            if len(digits) != width or not all(c in "0123456789abcdefABCDEF" for c in digits):
                raise self.wrong("an escape is none")
            self.at += width
            low = re.match(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})", self.text[self.at :][:6])
            if 0xD800 <= int(digits, 16) < 0xDC00 and low:
                self.at += 6
                return bytes.fromhex(digits + low[1]).decode("utf-16-be")
            # Half of a pair is no character, and no file here could hold it.
            return "\ufffd" if 0xD800 <= int(digits, 16) < 0xE000 else chr(int(digits, 16))
        if letter == "\r" and self.text[self.at : self.at + 1] == "\n":
            self.at += 1
        if letter in "\n\r\u2028\u2029":
            return ""
        return _ESCAPES.get(letter, letter)
