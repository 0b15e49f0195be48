"""One line of the record and the chain that binds it to the line before. Pure.

A line is a JSON object on one line, without spaces. Its ``hash`` is the SHA-256 of the hash before it and of the line's
other members as canonical JSON (sorted keys, no spaces). An edited line does not match its own hash; a
removed, added or moved one does not continue the line before.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from carrel.declare.suspects import HIDDEN, is_secret_of, without_secrets
from carrel.secrets import masked
from carrel.telemetry import escape_text

GENESIS: Final = "0" * 64
MAX_VALUE: Final = 2000
MAX_MEMBER: Final = 4000
"""Characters that one text, and all of one member of a line (`after`, say), may have."""
MAX_DEPTH: Final = 16
_AHEAD: Final = 1024
_CUT: Final = "…"
_SHORT: Final = 40


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the record, and where: a file's name and a line's number from 1."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: the hash and number of its last line."""

    hash: str = GENESIS
    number: int = 0


def sealed(head: Head, members: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The line that holds ``members`` after ``head``, with its newline, and the new head."""
    body: dict[str, Any] = {"n": head.number + 1, **kept(members), "prev": head.hash}
    digest = _digest(head.hash, body)
    line = json.dumps({**body, "hash": digest}, ensure_ascii=False, separators=(",", ":")).encode()
    return line + b"\n", Head(digest, head.number + 1)


def kept(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a line, each as a line may have it."""
    return {str(safe(name)): safe(value) for name, value in members.items()}


def safe(value: Any) -> Any:
    """``value`` as a line may have it: short, without secrets, control and bidirectional characters written out.

    Whoever is refused has a line too, so how much it takes on the disk is not theirs to say.
    """
    return _Room().of(value, 0)


class _Room:
    """What one member of a line has left for texts and keys, in characters."""

    def __init__(self) -> None:
        self._left = MAX_MEMBER

    def of(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            self._left -= value.bit_length() // 4
            return value if abs(value) < 1 << 64 else f"a number of {value.bit_length()} bits"
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, list | tuple):
            return self._list(value, depth + 1)
        return self._text(str(value)[: MAX_VALUE + _AHEAD])

    def _list(self, value: Sequence[Any], depth: int) -> list[Any]:
        found: list[Any] = []
        for at, one in enumerate(value, 1):
            # What was cut before is not cut again: its last member says so.
            told = at == len(value) and isinstance(one, str) and len(one) <= _SHORT
            if self._is_full(depth) and not told:
                return [*found, _more(len(value) - len(found))]
            found.append(self.of(one, depth))
        return found

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for count, (key, one) in enumerate(value.items()):
            # What was cut before is not cut again, nor is anybody's own key of that name a way around.
            told = key == _CUT and isinstance(one, str) and len(one) <= _SHORT
            if self._is_full(depth) and not told:
                found[_CUT] = _more(len(value) - count)
                break
            hidden = isinstance(one, str) and is_secret_of(str(key), one)
            found[self._text(str(key))] = HIDDEN if hidden else self.of(one, depth)
        return found

    def _is_full(self, depth: int) -> bool:
        # What is no text takes room as well.
        self._left -= 2
        return self._left <= 0 or depth > MAX_DEPTH

    def _text(self, text: str) -> str:
        shown = text.encode("utf-8", "replace").decode() if len(text) <= MAX_VALUE else _beginning(text)
        shown = escape_text(without_secrets(masked(shown)))
        self._left -= len(shown)
        return shown


def _beginning(text: str) -> str:
    """The first of a long text. What is hidden in it is looked for in more than is shown: half a secret is one, too."""
    ahead = text[: MAX_VALUE + _AHEAD].encode("utf-8", "replace").decode()
    known = without_secrets(masked(ahead))
    # A secret that the end of what was looked at cut in two stands at the end still.
    shown = known if len(text) <= len(ahead) else known[:-_AHEAD]
    return shown if len(shown) <= MAX_VALUE and shown is known else shown[:MAX_VALUE] + "… (cut)"


def _more(count: int) -> str:
    return f"{count} more are not shown"


def follow(
    name: str, lines: Iterable[bytes], head: Head, wanted: dict[int, str] | None = None, *, first: int = 1
) -> tuple[list[Finding], Head]:
    """Walk one file's lines after ``head``; what is wrong, and the head after them. It goes on after a finding.

    ``wanted`` are numbers of lines whose hashes are to be told. ``first`` is which line of the file the first one is.
    """
    findings: list[Finding] = []
    for number, raw in enumerate(lines, first):
        if not raw.endswith(b"\n"):
            findings.append(Finding(name, number, "the line is torn: it has no end"))
            break
        try:
            found = json.loads(raw)
            stated, claimed = str(found.pop("hash")), int(found["n"])
            before = str(found["prev"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            findings.append(Finding(name, number, "the line is not one of the record's"))
            continue
        if wanted is not None and claimed in wanted:
            wanted[claimed] = stated
        if stated != _digest(before, found) or not _as_written(raw, found, stated):
            findings.append(Finding(name, number, "the line was edited: it does not match its own hash"))
        elif before != head.hash:
            findings.append(Finding(name, number, _break(claimed, head)))
        head = Head(stated, claimed)
    return findings, head


def those(first: int, last: int) -> str:
    """Lines by their numbers, as a sentence begins with them."""
    return f"line {first} was" if first == last else f"lines {first} to {last} were"


def _as_written(raw: bytes, found: Mapping[str, Any], stated: str) -> bool:
    """No space, escape or second key of one name that the writer would not have put there."""
    line = json.dumps({**found, "hash": stated}, ensure_ascii=False, separators=(",", ":"))
    return raw == line.encode("utf-8", "surrogatepass") + b"\n"


def _break(claimed: int, head: Head) -> str:
    if claimed > head.number + 1:
        return f"{those(head.number + 1, claimed - 1)} removed before it"
    if claimed <= head.number:
        return f"the line stands out of order: it is number {claimed}, after number {head.number}"
    return "the line does not continue the one before it, which was replaced"


def _digest(before: str, body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(before.encode() + canonical.encode("utf-8", "surrogatepass")).hexdigest()
