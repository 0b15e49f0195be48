"""Whether the record is whole: its chain walked, its ends held against what was signed and what is kept elsewhere."""

import json
from collections.abc import Callable, Iterable
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
_MOST_LOOKS: Final = 200


@dataclass
class _Walk:
    """One way over the lines, from wherever it came to: what is wrong, and where each day ends.

    ``wanted`` are the numbers of lines that ends and marks speak of, with the hashes that those lines have.
    """

    path: Path
    wanted: dict[int, str]
    head: Head
    findings: list[Finding] = field(default_factory=list)
    ends: dict[str, tuple[Head, int]] = field(default_factory=dict)
    is_torn: bool = False
    _read: dict[str, int] = field(default_factory=dict)

    def on(self, *, last: bool) -> None:
        """Walk over what is there by now. A torn line may be on its way still, unless this is the ``last`` time."""
        self.is_torn = False
        for file in days(self.path):
            with file.open("rb") as lines:
                lines.seek(self._read.get(file.name, 0))
                self._file(file, lines, last=last)

    def _file(self, file: Path, lines: Iterable[bytes], *, last: bool) -> None:
        count = self.ends.get(file.stem, (self.head, 0))[1]
        walked = size = 0

        def whole() -> Iterable[bytes]:
            nonlocal walked, size
            for line in lines:
                if not line.endswith(b"\n") and not last:
                    self.is_torn = True
                    return
                walked, size = walked + 1, size + len(line)
                yield line

        found, self.head = follow(file.name, whole(), self.head, self.wanted, first=count + 1)
        self.findings += found
        self._read[file.name] = self._read.get(file.name, 0) + size
        # An empty file is no day: a full disk, or a death, left it where its first line was to come.
        if walked:
            self.ends[file.stem] = self.head, count + walked

    @property
    def newest(self) -> str:
        """The name of the last file."""
        return f"{max(self.ends)}.jsonl" if self.ends else END

    @property
    def newest_count(self) -> int:
        """How many lines it has."""
        return self.ends[max(self.ends)][1] if self.ends else 0


def verify_directory(
    path: Path, trusted: Trusted, marks: Iterable[Path | SignedHead] = (), *, part: bool = False,
    looks: int = 1, pause: Callable[[], None] = lambda: None,
) -> list[Finding]:  # fmt: skip
    """Walk every file of the record at ``path``; an empty list is a record that is whole. Blocking.

    ``trusted`` are the keys that may have signed its ends. ``marks`` are ends that were kept elsewhere: the record goes
    as far as each of them, with that line there. ``part``: it may begin later than the record did, where the end of the
    day before is signed.

    A gateway that writes meanwhile looks for a moment as if its end was wrong. It is, where it is so at ``looks`` looks
    in a row without a new line, with a ``pause`` in between. Only lines that came since are walked over then.
    """
    said: list[Finding] = []
    kept: list[tuple[str, SignedHead]] = []
    for mark in marks:
        name = str(mark) if isinstance(mark, Path) else "the mark"
        signed, wrong = _read_mark(mark, name, trusted)
        said += wrong
        if signed is not None:
            kept.append((name, signed))
    start = _start(days(path), _read_heads(path / HEADS, trusted)[0]) if part else Head()
    walk = _Walk(path, {signed.number: "" for _, signed in kept}, start)
    walk.on(last=looks <= 1)
    findings: list[Finding] = []
    quiet = 0
    for _ in range(_MOST_LOOKS):
        before, last = walk.head, quiet + 1 >= looks
        ends = _ends(path, walk, trusted, part=part, last=last)
        findings = [*said, *walk.findings, *ends]
        for name, signed in kept:
            findings += _mark(name, signed, walk)
        if last or not (findings or walk.is_torn):
            break
        quiet = quiet + 1 if walk.head == before else 0
        pause()
    return list(dict.fromkeys(findings))


def _ends(path: Path, walk: _Walk, trusted: Trusted, *, part: bool, last: bool) -> list[Finding]:
    """What is wrong with the signed ends. Each is read before the lines that it speaks of, which were there by then."""
    heads, findings = _read_heads(path / HEADS, trusted)
    end, wrong = _read_end(path / END, trusted)
    known = walk.head.number
    if end is not None and end.number > known:
        walk.wanted[end.number] = ""
    walk.on(last=last)
    findings += _days_ended(walk, heads, part=part)
    if end is not None:
        return [*findings, *_end(end, walk, known)]
    there = walk.head != Head() or (path / END).exists()
    return [*findings, *(wrong if there else [])]


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


def _read_end(path: Path, trusted: Trusted) -> tuple[SignedHead | None, list[Finding]]:
    try:
        signed = SignedHead.parse(path.read_bytes())
    except OSError:
        signed = None
    if signed is None:
        return None, [Finding(path.name, 1, "the end is missing or cannot be read")]
    problem = signed.problem(trusted)
    return (None, [Finding(path.name, 1, f"the end of the record: {problem}")]) if problem else (signed, [])


def _cut(signed: SignedHead, walk: _Walk) -> tuple[str, int]:
    """Where lines are missing up to ``signed``: in its own file where that is empty, else behind the last line."""
    if signed.day > max(walk.ends, default="") and (walk.path / f"{signed.day}.jsonl").exists():
        return f"{signed.day}.jsonl", 1
    return walk.newest, walk.newest_count + 1


def _end(signed: SignedHead, walk: _Walk, known: int) -> list[Finding]:
    """The record ends as it was signed; ``known`` is the last line that was there before that end was read."""
    count, newest = walk.newest_count, walk.head.number
    if signed.number > newest:
        return [Finding(*_cut(signed, walk), f"{those(newest + 1, signed.number)} cut off")]
    if signed.number < known:
        # A gateway that is killed between lines and their end leaves as much; nothing here tells that from a hand.
        first = signed.number + 1
        lines = f"line {first} comes" if first == newest else f"lines {first} to {newest} come"
        what = f"{lines} after the signed end: a gateway that was killed wrote that last, or another hand added it"
        return [Finding(walk.newest, max(1, count - (newest - first)), what)]
    stated = walk.wanted.get(signed.number) if signed.number > known else walk.head.hash
    if stated != signed.hash:
        what = "the last line is not the one that was signed as the end: it was written anew"
        return [Finding(walk.newest, count, what)]
    if signed.number == newest and f"{signed.day}.jsonl" != walk.newest and newest:
        return [Finding(walk.newest, 1, f"the file was renamed: its end was signed as that of {signed.day}")]
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


def _mark(name: str, signed: SignedHead, walk: _Walk) -> list[Finding]:
    """The line that a mark speaks of is there, as it was."""
    if signed.number > walk.head.number:
        what = f"{those(walk.head.number + 1, signed.number)} cut off: {name} was made after them"
        return [Finding(*_cut(signed, walk), what)]
    if signed.number and walk.wanted[signed.number] not in ("", signed.hash):
        return [Finding(f"{signed.day}.jsonl", 1, f"line {signed.number} is another than when {name} was made")]
    return []
