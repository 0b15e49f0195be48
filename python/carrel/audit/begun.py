"""Changes that were begun and have no line yet: what the next start needs to give one to those that a death cut short.

``audit/begun.jsonl`` has what a line of each says but its outcome, with `begun`, the moment, which no two have, and
`after`, the number of the record's last line then. It is synced before a change is made. It is not part of the record:
what is in it and in the record as well is over. ``audit/reserve`` is room on the disk for lines of changes that were
made while it filled up. Blocking.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from carrel.audit.chain import safe
from carrel.audit.files import append_synced, days
from carrel.durability import sync_directory

BEGUN: Final = "begun.jsonl"
RESERVE: Final = "reserve"
RESERVED: Final = 32 << 10
_LONG: Final = 256 << 10
Members = Mapping[str, Any]


class Begun:
    """Those of the record in the directory ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path / BEGUN
        self._open: set[str] = set()

    def add(self, changes: Sequence[Members]) -> None:
        """Keep them; raises OSError, and then none is kept."""
        self._reserve()
        if not self._open and self._file.exists() and self._file.stat().st_size > _LONG:
            os.truncate(self._file, 0)
        append_synced(self._file, b"".join(_line(one) for one in changes))
        self._open.update(str(one["begun"]) for one in changes)

    def is_open(self, begun: str) -> bool:
        """Whether one is kept, and not over."""
        return begun in self._open

    def ended(self, lines: Sequence[Members]) -> None:
        """They have their lines."""
        self._open.difference_update(str(one["begun"]) for one in lines)

    def left(self) -> list[dict[str, Any]]:
        """What changes that have no line would have had in it, oldest first, of a gateway that is dead."""
        try:
            found = [one for one in map(_read, self._file.read_bytes().splitlines(keepends=True)) if one is not None]
        except FileNotFoundError:
            return []
        if not found:
            return []
        return self.without_line([one["line"] for one in found], after=min(one["after"] for one in found))

    def without_line(self, lines: Sequence[Members], *, after: int) -> list[dict[str, Any]]:
        """Those of ``lines`` that are not in the record behind its line ``after``."""
        over: set[tuple[object, ...]] = set()
        for line in _lines(self._path):
            if line["n"] <= after:
                break
            over.add(_name(line))
        return [dict(one) for one in lines if _name(one) not in over]

    def clear(self) -> None:
        """Forget all."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self._file, 0)

    def make_room(self) -> bool:
        """Give the reserve up; whether there was one."""
        try:
            (self._path / RESERVE).unlink()
        except OSError:
            return False
        sync_directory(self._path)
        return True

    def _reserve(self) -> None:
        file = self._path / RESERVE
        if file.exists() and file.stat().st_size == RESERVED:
            return
        try:
            append_synced(file, bytes(RESERVED - (file.stat().st_size if file.exists() else 0)))
        except OSError:
            file.unlink(missing_ok=True)
            raise


def _line(change: Members) -> bytes:
    line = {name: value for name, value in change.items() if name != "number"}
    return json.dumps({"after": change["number"], "line": safe(line)}, ensure_ascii=False).encode() + b"\n"


def _read(raw: bytes) -> dict[str, Any] | None:
    """A line of the file; None for one that a power cut left half, whose change was not begun."""
    try:
        found = json.loads(raw)
        if isinstance(found["after"], int) and isinstance(dict(found["line"])["begun"], str):
            return dict(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _name(line: Members) -> tuple[object, ...]:
    return line.get("begun"), line.get("request_id"), line.get("action")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines, newest first."""
    for file in reversed(days(path)):
        for raw in reversed(file.read_bytes().splitlines()):
            try:
                line = json.loads(raw)
                if isinstance(line["n"], int):
                    yield line
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
