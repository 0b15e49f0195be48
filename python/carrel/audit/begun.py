"""Changes that were begun and have no line yet: what the next start needs to give one to those that a death cut short.

``audit/begun.jsonl`` has what a line of each says but its outcome, with `begun`, the moment, which no two have, and
`after`, the number of the record's last line then. It is synced before a change is made. It is not part of the record:
what is in it and in the record as well is over. Where it is long it is written anew with what is not. ``audit/reserve``
is room on the disk for lines of changes that were made while it filled up. Blocking.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from carrel.audit.chain import kept
from carrel.audit.files import append_synced, backwards, days
from carrel.durability import replace_synced, sync_directory

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
        self._open: dict[str, bytes] = {}
        self._limit = _LONG

    def add(self, changes: Sequence[Members]) -> None:
        """Keep them; raises OSError, and then none is kept."""
        self._reserve()
        if self._file.exists() and self._file.stat().st_size > (self._limit if self._open else _LONG):
            self._shorten()
        lines = {str(one["begun"]): _line(one) for one in changes}
        append_synced(self._file, b"".join(lines.values()))
        self._open.update(lines)

    def is_open(self, begun: str) -> bool:
        """Whether one is kept, and not over."""
        return begun in self._open

    def ended(self, lines: Sequence[Members]) -> None:
        """They have their lines."""
        for one in lines:
            self._open.pop(str(one.get("begun")), None)

    def left(self) -> list[dict[str, Any]]:
        """What changes that have no line would have had in it, oldest first, of a gateway that is dead.

        They are kept, as those that are added, until they have it.
        """
        try:
            with self._file.open("rb") as file:
                found = [one for one in map(_read, file) if one is not None]
        except FileNotFoundError:
            return []
        if not found:
            return []
        left = self.without_line([one["line"] for one in found], after=min(one["after"] for one in found))
        open_ = {one["begun"] for one in left}
        self._open.update(
            (one["line"]["begun"], _line({**one["line"], "number": one["after"]}))
            for one in found
            if one["line"]["begun"] in open_
        )
        return left

    def without_line(self, lines: Sequence[Members], *, after: int) -> list[dict[str, Any]]:
        """Those of ``lines`` that are not in the record behind its line ``after``.

        Read from its end up to there, or until all are found, and never more of it at a time than a piece.
        """
        missing = {_name(one) for one in lines}
        for line in _lines(self._path):
            if line["n"] <= after or not missing:
                break
            missing.discard(_name(line))
        return [dict(one) for one in lines if _name(one) in missing]

    def clear(self) -> None:
        """Forget all, where none is open."""
        if not self._open:
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

    def _shorten(self) -> None:
        """Keep those alone that are not over: some take hours, and others come and go all the while."""
        if self._open:
            kept = b"".join(self._open.values())
            replace_synced({self._file: kept})
            self._limit = max(_LONG, 2 * len(kept))
        else:
            self.clear()
            self._limit = _LONG

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
    return json.dumps({"after": change["number"], "line": kept(line)}, ensure_ascii=False).encode() + b"\n"


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
    begun = line.get("begun")
    return begun, line.get("request_id"), line.get("action"), line.get("target") if begun is None else None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines, newest first."""
    for file in reversed(days(path)):
        for raw in backwards(file):
            try:
                line = json.loads(raw)
                if isinstance(line["n"], int):
                    yield line
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
