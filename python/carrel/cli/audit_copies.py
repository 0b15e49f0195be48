"""Copies of the audit log that are fetched over the control plane, byte for byte as the gateway keeps it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, Final

from carrel.cli.client import request, understand, whole
from carrel.cli.failures import Refused
from carrel.cli.options import Target
from carrel.wire.control import AuditEnds, AuditPage

PAGE: Final = 1000


def pages(target: Target, asked: Mapping[str, str | None], *, limit: int = PAGE) -> Iterator[dict[str, Any]]:
    """The lines that are asked for, page by page."""
    cursor = asked.get("cursor")
    while True:
        query = {**asked, "limit": str(limit), "cursor": cursor}
        given = {name: value for name, value in query.items() if value is not None}
        page = understand(AuditPage, request(target, "GET", "/v1/audit", query=given))
        yield from page.lines
        if page.next is None:
            return
        cursor = page.next


def copy_out(target: Target, directory: Path, *, first: str | None, last: str | None) -> int:
    """Copy the days from ``first`` to ``last`` into the new ``directory``; how many lines. Raises Refused."""
    ends = understand(AuditEnds, whole(target, "/v1/audit/ends", "days"))
    try:
        directory.mkdir(mode=0o700)
        return _copy(target, directory, ends, first, last)
    except OSError as error:
        raise Refused(f"{directory} cannot be written: {error.strerror}.", code="unwritable") from error


def _copy(target: Target, directory: Path, ends: AuditEnds, first: str | None, last: str | None) -> int:
    borders = [(one.number, one.day) for one in (*ends.days, *([ends.end] if ends.end is not None else []))]
    after = max((number for number, day in borders if first is not None and day < first), default=0)
    count, current = 0, ""
    file: BinaryIO | None = None
    with ExitStack() as stack:
        for line in pages(target, {"cursor": str(after)}):
            # A line that came after the ends were asked for is not in this copy.
            day = next((day for number, day in borders if int(line["n"]) <= number), None)
            if day is None or (last is not None and day > last):
                break
            if file is None or day != current:
                current, file = day, stack.enter_context((directory / f"{day}.jsonl").open("xb"))
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            count += 1
    _write_ends(directory, ends, last=current)
    return count


def _write_ends(directory: Path, ends: AuditEnds, *, last: str) -> None:
    """The signed ends up to the last day that is there, and that day's own as the end of all."""
    signed = [*ends.days, *([ends.end] if ends.end is not None else [])]
    lines = {one.day: json.dumps(one.model_dump(mode="json")) + "\n" for one in signed}
    days = [one.day for one in ends.days if one.day <= last]
    (directory / "heads.jsonl").write_text("".join(lines[day] for day in days), encoding="ascii")
    if last in lines:
        (directory / "head.json").write_text(lines[last], encoding="ascii")
    (directory / "audit-signing-key.pub").write_text(ends.public_key, encoding="ascii")
