"""Small changes to a JSON body in its own bytes: a value put in another's place, a member put in front.

For bodies that were parsed already and have no key twice.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

_OPENING: Final = (b"{", b"[")
_CLOSING: Final = (b"}", b"]")
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+', re.DOTALL)


def replace_members(body: bytes, values: Mapping[str, object]) -> bytes:
    """``body``, an object that is not empty, with ``values`` as members of it; what is there is replaced."""
    spans = find_members(body, values)
    made = {
        # Half a surrogate pair is escaped as it was there.
        name: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        for name, value in values.items()
    }
    out: list[bytes] = []
    at = body.index(b"{") + 1
    out.append(body[:at])
    out += [json.dumps(name).encode() + b":" + text + b"," for name, text in made.items() if name not in spans]
    for name, (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        out += (body[at:start], made[name])
        at = end
    out.append(body[at:])
    return b"".join(out)


def add_member(body: bytes, member: bytes) -> bytes:
    """``body``, an object that is not empty and has none of that name, with ``member`` (`"name":value`) in front."""
    at = body.index(b"{") + 1
    return b"%b%b,%b" % (body[:at], member, body[at:])


def find_members(body: bytes, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Where the values of the top-level members ``names`` are, as start and end."""
    wanted = set(names)
    found: dict[str, tuple[int, int]] = {}
    tokens = _TOKEN.finditer(body)
    for key, value in _members(tokens):
        end = _value_end(value, tokens)
        if key in wanted:
            found[key] = (value.start(), end)
            if len(found) == len(wanted):
                break
    return found


def start_of(body: bytes, name: str) -> int:
    """Where the value of the top-level member ``name`` begins, which is not read; raises KeyError without one."""
    tokens = _TOKEN.finditer(body)
    for key, value in _members(tokens):
        if key == name:
            return value.start()
        _value_end(value, tokens)
    raise KeyError(name)


def drop_items(body: bytes, name: str, numbers: Collection[int]) -> bytes:
    """``body`` without the items ``numbers`` of the array under ``name``; the others stay as they are."""
    start, end = find_members(body, [name])[name]
    kept: list[bytes] = []
    tokens = _TOKEN.finditer(body, start, end)
    next(tokens)
    for number, first in enumerate(tokens):
        if first[0] == b"]":
            break
        last = _value_end(first, tokens)
        if number not in numbers:
            kept.append(body[first.start() : last])
        if next(tokens)[0] != b",":
            break
    return b"%b[%b]%b" % (body[:start], b",".join(kept), body[end:])


def _members(tokens: Iterator[re.Match[bytes]]) -> Iterator[tuple[str, re.Match[bytes]]]:
    """Each top-level member's name and the first token of its value, whose others the caller takes from ``tokens``."""
    next(tokens)
    for token in tokens:
        if not token[0].startswith(b'"'):
            return
        next(tokens)
        yield json.loads(token[0]), next(tokens)
        if next(tokens)[0] != b",":
            return


def _value_end(first: re.Match[bytes], rest: Iterator[re.Match[bytes]]) -> int:
    """Where the value that begins with ``first`` ends; takes its tokens from ``rest``."""
    depth = int(first[0] in _OPENING)
    if not depth:
        return first.end()
    for token in rest:
        depth += (token[0] in _OPENING) - (token[0] in _CLOSING)
        if not depth:
            return token.end()
    return first.end()
