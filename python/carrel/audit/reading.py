"""Finding lines of the record: by who, what, when and any word, from either end, page by page.

What cannot match is told by the line's bytes alone; only lines that may are parsed. Nothing here changes a file.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from carrel.audit.chain import safe
from carrel.audit.files import backwards, days
from carrel.errors import InvalidRequest
from carrel.wire.control import AuditPage, AuditQuery

_READ: Final = ("tenant", "actor", "action", "target", "outcome", "request_id", "before", "after")
_EXACT: Final = ("tenant", "actor", "target", "outcome", "request_id")


def page(path: Path, query: AuditQuery) -> AuditPage:
    """The lines that ``query`` asks for; raises InvalidRequest for a cursor that is none. Blocking."""
    cursor: int | None = None
    if query.place is not None:
        if not (query.place.isascii() and query.place.isdigit() and len(query.place) < 19):
            raise InvalidRequest("The cursor is not one that this listing gave.", param="cursor")
        cursor = int(query.place)
    found: list[dict[str, Any]] = []
    sought = _Sought(query)
    for raw in _raw(path, query, cursor):
        line = sought.line(raw)
        if line is None or not _beyond(line, cursor, newest=query.order == "newest"):
            continue
        found.append(line)
        if len(found) > query.limit:
            break
    more = len(found) > query.limit
    lines = found[: query.limit]
    return AuditPage.model_validate({"lines": lines, "next": str(lines[-1]["n"]) if more else None})


class _Sought:
    """What a query asks of a line."""

    def __init__(self, query: AuditQuery) -> None:
        self._exact = {name: str(safe(v)) for name in _EXACT if (v := getattr(query, name)) is not None}
        self._action = str(safe(query.action)) if query.action is not None else None
        self._since, self._until = _moment(query.since), _moment(query.until)
        self._text = str(safe(query.text)).casefold() if query.text else None
        self._marks = [f'"{name}":{_text(value)}'.encode() for name, value in self._exact.items()]
        if self._action is not None:
            start = _text(self._action.removesuffix("*"))
            self._marks.append(f'"action":{start[:-1] if self._action.endswith("*") else start}'.encode())

    def line(self, raw: bytes) -> dict[str, Any] | None:
        """The line, where it is one that is sought."""
        if not all(mark in raw for mark in self._marks):
            return None
        try:
            line = json.loads(raw)
            number, time, action = line["n"], str(line["time"]), str(line["action"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(number, int) or any(line.get(name) != value for name, value in self._exact.items()):
            return None
        if not (self._since or "") <= time or (self._until is not None and time >= self._until):
            return None
        if self._text is not None and not any(self._text in _text(line.get(name)).casefold() for name in _READ):
            return None
        wanted = self._action
        if wanted is not None and not (
            action.startswith(wanted[:-1]) if wanted.endswith("*") else action == wanted
        ):  # fmt: skip
            return None
        return dict(line)


def _raw(path: Path, query: AuditQuery, cursor: int | None) -> Iterator[bytes]:
    """The lines of the files that may have what is sought, in the order that is asked for."""
    files = days(path)
    if query.since is not None:
        # A line's file is of its day, or of a later one where the clock was put back.
        first = f"{query.since.astimezone(UTC):%Y-%m-%d}"
        files = [file for file in files if file.stem >= first]
    newest = query.order == "newest"
    if cursor is not None and files:
        begins = [_first(file) for file in files]
        if newest:
            files = [file for file, first_line in zip(files, begins, strict=True) if first_line < cursor]
        else:
            at = max((i for i, first_line in enumerate(begins) if first_line <= cursor + 1), default=0)
            files = files[at:]
    for file in reversed(files) if newest else files:
        yield from backwards(file) if newest else _forwards(file)


def _forwards(file: Path) -> Iterator[bytes]:
    with file.open("rb") as lines:
        yield from lines


def _first(file: Path) -> int:
    with file.open("rb") as lines:
        try:
            return int(json.loads(lines.readline())["n"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return 0


def _beyond(line: dict[str, Any], cursor: int | None, *, newest: bool) -> bool:
    return cursor is None or (line["n"] < cursor if newest else line["n"] > cursor)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _moment(when: datetime | None) -> str | None:
    return when.astimezone(UTC).isoformat(timespec="milliseconds") if when is not None else None
