"""One transcript's file: read, mended, and appended to so that what was acknowledged is on the disk.

Blocking, and so called from worker threads alone. The file is opened beneath the tenant's `sessions` directory. A write
goes out in one piece and is synced before it counts; where it fails, what came of it is cut off again.
"""

import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from carrel.agents.entries import VERSION, Entry, Header, NoteEntry, encode, parse_entry
from carrel.errors import CarrelError, Conflict, TooLarge, lacking
from carrel.ids import SessionId
from carrel.tenancy.paths import TenantRoot

DIRECTORY: Final = "sessions"
SUFFIX: Final = ".jsonl"
MAX_BYTES: Final = 256 * 1024 * 1024
Sync = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that cannot be read, counted from 1, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file holds. ``size`` is where its whole lines end, ``torn`` what follows them.

    ``unended``: the last whole line only lacks its line end.
    """

    header: Header | None
    entries: tuple[Entry, ...]
    size: int
    torn: bytes = b""
    unended: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def next_id(self) -> int:
        """The id of the next line to write."""
        return max((entry.id for entry in self.entries), default=0) + 1

    @property
    def unsaid(self) -> tuple[Problem, ...]:
        """Problems that no note in the file speaks of yet."""
        said = {entry.line for entry in self.entries if isinstance(entry, NoteEntry)}
        return tuple(problem for problem in self.problems if problem.line not in said)


def file_name(session_id: SessionId) -> str:
    """The file of a session."""
    return f"{session_id}{SUFFIX}"


def parse(data: bytes) -> Loaded:
    """What ``data`` holds. Raises CarrelError for a later version's format; nothing else is refused."""
    lines = data.split(b"\n")
    tail = lines.pop()
    header: Header | None = None
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        try:
            if number == 1:
                header = _header(line)
            else:
                entries.append(parse_entry(line))
        except ValueError as error:
            problems.append(Problem(number, _reason(error)))
    size = len(data) - len(tail)
    if not tail:
        return Loaded(header, tuple(entries), size, problems=tuple(problems))
    try:
        if lines:
            entries.append(parse_entry(tail))
        else:
            header = _header(tail)
    except ValueError:
        return Loaded(header, tuple(entries), size, tail, problems=tuple(problems))
    return Loaded(header, tuple(entries), len(data), unended=True, problems=tuple(problems))


def problem_of(number: int, line: bytes) -> Problem | None:
    """Why the entry in ``line``, which is the file's ``number``, cannot be read; None where it can."""
    try:
        parse_entry(line)
    except ValueError as error:
        return Problem(number, _reason(error))
    return None


def read(directory: TenantRoot, session_id: SessionId) -> Loaded:
    """The session's transcript as it is now; raises NotFound, TooLarge."""
    with os.fdopen(directory.open_file(file_name(session_id)), "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise TooLarge("This session's transcript has grown too large: begin a new session.", param="session")
    return parse(data)


def mend(
    directory: TenantRoot, session_id: SessionId, loaded: Loaded, header: Header, notes: Sequence[Entry], *, sync: Sync
) -> int:
    """End the last whole line, cut off what is torn after it, write ``notes``; returns the new size.

    ``header`` is written where not even the first line is left.
    """
    data = b"\n" if loaded.unended else b"" if loaded.size else encode(header)
    data += b"".join(encode(note) for note in notes)
    return append(directory, session_id, data, at=loaded.size, sync=sync)


def torn_note(torn: bytes) -> NoteEntry:
    """The note that keeps a torn last line aside."""
    kept = base64.b64encode(torn[: 1 << 20]).decode()
    return NoteEntry(text=f"The last line was cut off after {len(torn)} bytes and is kept here.", torn=kept)


def problem_note(problem: Problem) -> NoteEntry:
    """The note that says that a line cannot be read."""
    return NoteEntry(text=f"Line {problem.line} cannot be read and is left out: {problem.reason}.", line=problem.line)


def create(directory: TenantRoot, session_id: SessionId, data: bytes) -> int:
    """Make the file with ``data`` in it, whole or not at all; returns its size. Raises Conflict, StorageFailed."""
    name = file_name(session_id)
    try:
        os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        directory.replace(name, data)
        return len(data)
    raise Conflict("There is a session of that id already.")


def append(directory: TenantRoot, session_id: SessionId, data: bytes, *, at: int, sync: Sync) -> int:
    """Write ``data`` at the offset ``at``, which is the end of what counts, and sync it; returns the new size.

    Raises StorageFailed where the disk takes it not, with the file as it was.
    """
    fd = directory.open_file(file_name(session_id), os.O_WRONLY)
    try:
        found = os.fstat(fd).st_size
        if found < at:
            raise Conflict("The session's transcript was changed by somebody else.")
        try:
            if found > at:
                os.ftruncate(fd, at)
            _write(fd, data, at)
            sync(fd)
        except OSError as error:
            _cut_back(fd, at)
            raise lacking(error, "nothing was taken") or CarrelError(
                f"The session cannot be written: {os.strerror(error.errno or 0)}."
            ) from error
    finally:
        os.close(fd)
    return at + len(data)


def _write(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def _cut_back(fd: int, size: int) -> None:
    """Take back a write that failed; where that fails too, the next load finds a torn line and mends it."""
    try:
        os.ftruncate(fd, size)
    except OSError:
        return


def _header(line: bytes) -> Header:
    try:
        return Header.model_validate_json(line)
    except ValidationError:
        version = _version(line)
        if version > VERSION:
            raise CarrelError(
                f"The session was written by a later version of Carrel (format {version}); this one reads up to "
                f"format {VERSION}."
            ) from None
        raise


def _version(line: bytes) -> int:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return 0
    version = found.get("version") if isinstance(found, dict) and found.get("type") == "session" else None
    return version if isinstance(version, int) else 0


def _reason(error: ValueError) -> str:
    """Why a line is none, without what is in it."""
    if not isinstance(error, ValidationError):
        return "it is no JSON"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
