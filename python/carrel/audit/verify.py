"""Whether the record is whole: its chain walked, its ends held against what was signed and what is kept elsewhere."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carrel.audit.chain import GENESIS, Finding, Head, follow, those
from carrel.audit.files import days
from carrel.audit.heads import SignedHead, Trusted

END: Final = "head.json"
HEADS: Final = "heads.jsonl"
_MEND: Final = b'"action":"audit.mend"'
TOGETHER: Final = 64
"""The most lines that go to the disk before their one signed end."""


@dataclass
class _Walk:
    """One pass over the lines: what is wrong, where each day ends, and the hashes of the lines that marks speak of."""

    wanted: dict[int, str]
    findings: list[Finding] = field(default_factory=list)
    ends: dict[str, tuple[Head, int]] = field(default_factory=dict)
    head: Head = field(default_factory=Head)

    def file(self, name: str, lines: Iterable[bytes]) -> None:
        count = 0

        def counted() -> Iterable[bytes]:
            nonlocal count
            for line in lines:
                count += 1
                yield line

        found, self.head = follow(name, counted(), self.head, self.wanted)
        self.findings += found
        self.ends[name.removesuffix(".jsonl")] = self.head, count


def verify_directory(
    path: Path, trusted: Trusted, marks: Iterable[Path | SignedHead] = (), *, part: bool = False
) -> list[Finding]:
    """Walk every file of the record at ``path``; an empty list is a record that is whole. Blocking.

    ``trusted`` are the keys that may have signed its ends. ``marks`` are ends that were kept elsewhere: the record goes
    as far as each of them, with that line there. ``part``: it may begin later than the record did, where the end of the
    day before is signed.
    """
    heads, findings = _read_heads(path / HEADS, trusted)
    kept: list[tuple[str, SignedHead]] = []
    for mark in marks:
        name = str(mark) if isinstance(mark, Path) else "the mark"
        signed, said = _read_mark(mark, name, trusted)
        findings += said
        if signed is not None:
            kept.append((name, signed))
    files = days(path)
    walk = _Walk({signed.number: "" for _, signed in kept}, head=_start(files, heads) if part else Head())
    for file in files:
        with file.open("rb") as lines:
            walk.file(file.name, lines)
    findings += walk.findings
    findings += _days_ended(walk, heads, part=part)
    findings += _end(path / END, walk, trusted, last=files[-1].name if files else END)
    for name, signed in kept:
        findings += _mark(name, signed, walk, last=files[-1].name if files else END)
    return list(dict.fromkeys(findings))


def mended(path: Path) -> list[Finding]:
    """What starts of the gateway noted about the record, in the record at ``path`` itself. Blocking."""
    found: list[Finding] = []
    for file in days(path):
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                if _MEND in raw:
                    found += _note(file.name, number, raw)
    return found


def _note(name: str, number: int, raw: bytes) -> list[Finding]:
    try:
        line = json.loads(raw)
        # The very first line says that the record's key was made, which is no news.
        if line["action"] != "audit.mend" or line["n"] == 1:
            return []
        return [Finding(name, number, f"the gateway noted at a start: {line['target']}: {line['after']}")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _start(files: list[Path], heads: list[SignedHead]) -> Head:
    """Where the chain begins: nowhere, or after the signed end of a day that is before all those that are here."""
    if not files:
        return Head()
    before = [one for one in heads if one.day < files[0].stem]
    with files[0].open("rb") as lines:
        first = next(iter(lines), b"")
    return before[-1].head if before and f'"prev":"{GENESIS}"'.encode() not in first else Head()


def _read_heads(path: Path, trusted: Trusted) -> tuple[list[SignedHead], list[Finding]]:
    heads: list[SignedHead] = []
    findings: list[Finding] = []
    if not path.exists():
        return heads, findings
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            signed = SignedHead.parse(raw) if raw.endswith(b"\n") else None
            if signed is None:
                findings.append(Finding(path.name, number, "the line is no signed end of a day"))
                continue
            problem = signed.problem(trusted)
            if problem is not None:
                findings.append(Finding(path.name, number, f"the end of {signed.day[:10]}: {problem}"))
            elif heads and signed.day <= heads[-1].day:
                findings.append(Finding(path.name, number, f"the end of {signed.day} stands out of order"))
            else:
                heads.append(signed)
    return heads, findings


def _days_ended(walk: _Walk, heads: list[SignedHead], *, part: bool) -> list[Finding]:
    """Each day but the last has a signed end, and each signed end a day that ends so."""
    signed = {one.day: one for one in heads}
    names = sorted(walk.ends)
    first = names[0] if names else ""
    findings = [
        Finding(HEADS, len(heads) + 1, f"the signed end of {day} is missing") for day in names[:-1] if day not in signed
    ]
    for day, one in signed.items():
        if part and day < first:
            continue
        if day not in walk.ends:
            findings.append(Finding(f"{day}.jsonl", 1, f"the whole day was removed, up to line {one.number}"))
            continue
        head, count = walk.ends[day]
        if head.number < one.number:
            what = f"{those(head.number + 1, one.number)} cut off: the day's signed end has them"
            findings.append(Finding(f"{day}.jsonl", count + 1, what))
        elif head != one.head:
            what = f"the day's signed end is line {one.number} with another hash: what is here was written anew"
            findings.append(Finding(f"{day}.jsonl", count, what))
    return findings


def _end(path: Path, walk: _Walk, trusted: Trusted, *, last: str) -> list[Finding]:
    try:
        signed = SignedHead.parse(path.read_bytes())
    except OSError:
        signed = None
    if signed is None:
        there = walk.head != Head() or path.exists()
        return [Finding(path.name, 1, "the end is missing or cannot be read")] if there else []
    problem = signed.problem(trusted)
    if problem is not None:
        return [Finding(path.name, 1, f"the end of the record: {problem}")]
    count = walk.ends[max(walk.ends)][1] if walk.ends else 0
    if signed.number > walk.head.number:
        what = f"{those(walk.head.number + 1, signed.number)} cut off"
        return [Finding(last, count + 1, what)]
    if signed.number < walk.head.number:
        # A gateway that is killed between lines and their end leaves as much; nothing here tells that from a hand.
        first, newest = signed.number + 1, walk.head.number
        lines = f"line {first} comes" if first == newest else f"lines {first} to {newest} come"
        what = f"{lines} after the signed end: a gateway that was killed wrote that last, or another hand added it"
        return [Finding(last, max(1, count - (newest - first)), what)]
    if signed.number == walk.head.number and signed.hash != walk.head.hash:
        return [Finding(last, count, "the last line is not the one that was signed as the end: it was written anew")]
    return []


def _read_mark(
    mark: Path | SignedHead, name: str, trusted: Trusted
) -> tuple[SignedHead | None, list[Finding]]:  # fmt: skip
    if isinstance(mark, SignedHead):
        signed: SignedHead | None = mark
    else:
        try:
            signed = SignedHead.parse(mark.read_bytes())
        except OSError:
            signed = None
    if signed is None:
        return None, [Finding(name, 1, "the mark is missing or cannot be read")]
    problem = signed.problem(trusted)
    return (None, [Finding(name, 1, f"the mark: {problem}")]) if problem else (signed, [])


def _mark(name: str, signed: SignedHead, walk: _Walk, *, last: str) -> list[Finding]:
    """The line that a mark speaks of is there, as it was."""
    if signed.number > walk.head.number:
        count = walk.ends[max(walk.ends)][1] if walk.ends else 0
        what = f"{those(walk.head.number + 1, signed.number)} cut off: {name} was made after them"
        return [Finding(last, count + 1, what)]
    if signed.number and walk.wanted[signed.number] not in ("", signed.hash):
        return [Finding(f"{signed.day}.jsonl", 1, f"line {signed.number} is another than when {name} was made")]
    return []
