"""One line of the record and the chain that binds it to the line before. Pure.

A line is a JSON object on one line, without spaces. Its ``hash`` is the SHA-256 of the hash before it and of the line's
other members as canonical JSON (sorted keys, no spaces). An edited line does not match its own hash; a
removed, added or moved one does not continue the line before.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from carrel.secrets import masked
from carrel.telemetry import escape_text

GENESIS: Final = "0" * 64
MAX_VALUE: Final = 2000


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
    body: dict[str, Any] = {"n": head.number + 1, **safe(dict(members)), "prev": head.hash}
    digest = _digest(head.hash, body)
    line = json.dumps({**body, "hash": digest}, ensure_ascii=False, separators=(",", ":")).encode()
    return line + b"\n", Head(digest, head.number + 1)


def safe(value: Any) -> Any:
    """``value`` with texts cut to a length, tokens masked, and control and bidirectional characters written out."""
    if isinstance(value, str):
        shown = value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "… (cut)"
        return escape_text(masked(shown.encode("utf-8", "replace").decode()))
    if isinstance(value, Mapping):
        return {str(safe(str(k))): safe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [safe(v) for v in value]
    if value is None or isinstance(value, bool | int):
        return value
    return safe(str(value))


def follow(
    name: str, lines: Iterable[bytes], head: Head, wanted: dict[int, str] | None = None
) -> tuple[list[Finding], Head]:
    """Walk one file's lines after ``head``; what is wrong, and the head after them. It goes on after a finding.

    ``wanted`` are numbers of lines whose hashes are to be told.
    """
    findings: list[Finding] = []
    for number, raw in enumerate(lines, 1):
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
