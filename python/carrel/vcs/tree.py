"""What a commit's tree may hold: plain files of readable names, not too many and not too large. Pure.

What is in the declarations themselves is `declare`'s to judge; this judges whatever else could be pushed with them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from carrel.declare import directory as names
from carrel.declare.problems import Problem
from carrel.telemetry import escape_text

PLAIN_MODES: Final = ("100644", "100755")
_KINDS: Final = {
    "120000": "a symbolic link: commit the file itself",
    "160000": "a submodule: commit its files themselves",
    "040000": "a directory that git could not look into",
}
_MAX_NAME: Final = 255


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a tree. ``size`` is in bytes; -1 for what has none."""

    path: str
    mode: str
    sha: str
    size: int

    def holds(self, data: bytes) -> bool:
        """Whether ``data`` is what the entry names: git's hash of it, SHA-1 or SHA-256."""
        algorithm = "sha1" if len(self.sha) == 40 else "sha256"
        return (
            self.size == len(data)
            and hashlib.new(algorithm, b"blob %d\0%b" % (len(data), data)).hexdigest() == self.sha
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tree may hold, in files, bytes of one file, and bytes of all of them."""

    files: int = 20_000
    file_bytes: int = 1 << 20
    tree_bytes: int = 64 << 20


def parse_entries(data: bytes) -> tuple[Entry, ...]:
    """What `git ls-tree -r -z -l` printed. Names that are no UTF-8 keep their bytes as lone surrogates."""
    return tuple(_entries(data))


def _entries(data: bytes) -> Iterator[Entry]:
    for line in data.split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, _, sha, size = about.decode("ascii").split()
            yield Entry(path.decode("utf-8", "surrogateescape"), mode, sha, int(size) if size.isdigit() else -1)


def judge_entries(entries: Sequence[Entry], limits: Limits) -> tuple[Problem, ...]:
    """What may not be in a tree, each at its path."""
    problems = [Problem(shown(e.path), 1, 1, "", message) for e in entries for message in _wrong(e, limits)]
    if len(entries) > limits.files:
        problems.append(Problem(".", 1, 1, "", f"{len(entries)} files: {limits.files} may be in the repository"))
    total = sum(max(entry.size, 0) for entry in entries)
    if total > limits.tree_bytes:
        text = f"the files are {total >> 20} MiB together: {limits.tree_bytes >> 20} MiB may be in the repository"
        problems.append(Problem(".", 1, 1, "", text))
    return tuple(problems)


def _wrong(entry: Entry, limits: Limits) -> Iterator[str]:
    if entry.mode not in PLAIN_MODES:
        yield f"not a plain file but {_KINDS.get(entry.mode, f'of mode {entry.mode}: give it mode 100644')}"
    elif entry.size > limits.file_bytes:
        yield f"{entry.size} bytes: a file may have {limits.file_bytes}; keep large files elsewhere"
    for part in entry.path.split("/"):
        if part in ("", ".", "..") or part.lower() in (".git", ".gitmodules"):
            yield "a name that no file may have here: rename it"
        elif any("\udc80" <= c <= "\udcff" for c in part):
            yield "the name is not UTF-8 text: rename it"
        elif not part.isprintable() or "\\" in part:
            yield "a name with control characters or a backslash: rename it"
        elif len(part.encode()) > _MAX_NAME:
            yield f"a name of over {_MAX_NAME} bytes: rename it"


def declarations(entries: Iterable[Entry], below: str) -> Mapping[str, Entry]:
    """The declarations among ``entries`` by name: files right in the directory ``below`` (the top where empty)."""
    prefix = f"{below}/" if below else ""
    return {
        name: entry
        for entry in entries
        if entry.path.startswith(prefix)
        and "/" not in (name := entry.path[len(prefix) :])
        and name
        and names.counts(name)
    }


def shown(path: str) -> str:
    """``path`` for a message: nothing in it acts on a terminal."""
    return escape_text(path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
