"""The append-only record of every change of state: one JSONL file a UTC day, hash-chained, synced before it counts.

``audit/YYYY-MM-DD.jsonl`` hold the lines; ``audit/head.json`` holds the end of the chain, so that a record cut short
is found too. The record is the gateway's own: no tenant's code can reach its directory.
"""

import asyncio
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from carrel.audit.chain import GENESIS, Finding, Head, follow, sealed
from carrel.clock import Clock
from carrel.errors import CarrelError, InvalidRequest, StorageFull
from carrel.wire.control import AuditPage

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")


class Audit:
    """Writes and reads the record. Calls are served one after the other; each returns when its line is synced."""

    def __init__(self, *, state_dir: Path, clock: Clock) -> None:
        self._path = state_dir / "audit"
        self._clock = clock
        self._head = Head()
        self._last_day = ""
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Find the end of the chain; a torn last line, which was never acknowledged, is cut off and noted."""
        torn = await asyncio.to_thread(self._find_end)
        if torn is not None:
            await self.record(
                actor="carrel", action="audit.mend", target=torn, request_id="-", outcome="ok",
                after="a torn last line was cut off",
            )  # fmt: skip

    async def record(
        self,
        *,
        actor: str,
        action: str,
        target: str,
        request_id: str,
        outcome: str,
        tenant: str | None = None,
        before: object = None,
        after: object = None,
    ) -> None:
        """Add one line; raises StorageFull where it cannot be kept, and then nothing was added."""
        members = {
            "actor": actor, "action": action, "target": target, "tenant": tenant, "request_id": request_id,
            "before": before, "after": after, "outcome": outcome,
        }  # fmt: skip
        async with self._lock:
            writing = asyncio.ensure_future(asyncio.to_thread(self._append, members))
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait([writing])
                raise

    async def page(self, *, after: str | None, limit: int, tenant: str | None) -> AuditPage:
        """Lines after number ``after``, oldest first; ``tenant`` keeps only those about it."""
        try:
            start = int(after) if after else 0
        except ValueError:
            raise InvalidRequest("The cursor is not one that this listing gave.", param="after") from None
        found = await asyncio.to_thread(self._take, start, limit + 1, tenant)
        more = len(found) > limit
        return AuditPage.model_validate(
            {"lines": found[:limit], "next": str(found[limit - 1]["n"]) if more and limit else None}
        )

    async def verify(self) -> list[Finding]:
        """Walk the whole chain; an empty list is a record with nothing edited, removed, moved or cut."""
        async with self._lock:
            return await asyncio.to_thread(verify_directory, self._path)

    def _append(self, members: Mapping[str, Any]) -> None:
        now = self._clock.now()
        day = max(f"{now:%Y-%m-%d}", self._last_day)
        line, head = sealed(self._head, {"time": now.isoformat(timespec="milliseconds"), **members})
        file = self._path / f"{day}.jsonl"
        try:
            size = _append_synced(file, line)
            try:
                _replace_synced(self._path / "head.json", json.dumps(asdict(head)).encode())
            except OSError:
                _cut(file, size)
                raise
        except OSError as error:
            raise _public(error) from error
        self._head, self._last_day = head, day

    def _find_end(self) -> str | None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        torn: str | None = None
        for path in reversed(_days(self._path)):
            size = path.stat().st_size
            with path.open("r+b") as file:
                whole = file.read().rfind(b"\n") + 1
                if whole < size:
                    file.truncate(whole)
                    os.fsync(file.fileno())
                    torn = path.name
                file.seek(0)
                lines = file.readlines()
            if lines:
                self._last_day = path.stem
                self._head = _head_of(lines[-1])
                break
        # Where the files were cut short the chain goes on from the end that was: the gap stays to be found.
        kept = _kept_head(self._path)
        if kept is not None and kept.number > self._head.number:
            self._head = kept
        return torn

    def _take(self, start: int, limit: int, tenant: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for line in _records(self._path):
            if int(line.get("n", 0)) > start and (tenant is None or line.get("tenant") == tenant):
                found.append(line)
                if len(found) == limit:
                    break
        return found


def verify_directory(path: Path) -> list[Finding]:
    """Walk every file of the record at ``path`` and compare its end with the head that is kept beside it."""
    findings: list[Finding] = []
    head = Head()
    last = "head.json"
    for file in _days(path):
        last = file.name
        with file.open("rb") as lines:
            found, head = follow(file.name, lines, head)
        findings += found
    expected = _kept_head(path)
    if expected is None:
        if head != Head() or (path / "head.json").exists():
            findings.append(Finding("head.json", 1, "the head is missing or cannot be read"))
        return findings
    # A crash between the line and the head leaves the head one line behind: the chain itself then holds.
    if expected.number > head.number:
        findings.append(Finding(last, head.number + 1, f"lines {head.number + 1} to {expected.number} were cut off"))
    elif expected.number < head.number - 1 or (expected.number == head.number and expected.hash != head.hash):
        findings.append(Finding("head.json", 1, "the head is not the end of the record"))
    return findings


def _kept_head(path: Path) -> Head | None:
    try:
        kept = json.loads((path / "head.json").read_bytes())
        return Head(str(kept["hash"]), int(kept["number"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _days(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if _DAY.fullmatch(p.name)) if path.is_dir() else []


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for file in _days(path):
        with file.open("rb") as lines:
            for raw in lines:
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue
                if isinstance(line, dict):
                    yield line


def _head_of(line: bytes) -> Head:
    try:
        found = json.loads(line)
        return Head(str(found["hash"]), int(found["n"]))
    except (ValueError, KeyError, TypeError):
        # What follows a line that is not the record's begins a chain that verify shows as broken here.
        return Head(GENESIS, 0)


def _cut(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def _append_synced(path: Path, line: bytes) -> int:
    """Append and sync; the size before. A line that could not be kept whole is taken away again."""
    new = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd).st_size
        try:
            written = os.write(fd, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)
    if new:
        _sync_directory(path.parent)
    return size


def _replace_synced(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _public(error: OSError) -> CarrelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The disk is full: the change was not made, for it could not be recorded.")
    return CarrelError(f"The change was not made, for it could not be recorded: {os.strerror(error.errno or 0)}.")
