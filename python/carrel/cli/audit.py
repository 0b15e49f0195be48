"""`carrel audit`: who changed what, and whether the record of it is whole."""

import json
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE, FAILED, Refused, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.wire.control import AuditPage

_PAGE: Final = 1000
_FOLLOW_SECONDS: Final = 1.0
_LOOKS: Final = 4
_SHOWN: Final = ("time", "actor", "action", "target", "outcome", "request_id")


def tail(
    *,
    lines: Annotated[int, Parameter(name=("--lines", "-n"), help="How many of the last lines to show.")] = 20,
    tenant: Annotated[str | None, Parameter(help="Only lines about this tenant.")] = None,
    follow: Annotated[
        bool,
        Parameter(
            name=("--follow", "-f"),
            negative=(),
            show_default=False,
            help="Go on with new lines as they come, until Ctrl-C.",
        ),
    ] = False,
    target: Target = HERE,
) -> int:
    """Show the last lines of the audit log."""
    if lines < 0:
        raise WrongUsage("--lines takes 0 or more.")
    last: deque[dict[str, Any]] = deque(maxlen=lines)
    cursor: str | None = None
    for line in _after(target, None, tenant):
        last.append(line)
        cursor = _number(line)
    for line in last:
        _show(line, target)
    if not last and not follow and lines:
        screen.note("There is no such line in the record." if tenant is None else f"No line is about {tenant}.")
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        for line in _after(target, cursor, tenant):
            _show(line, target)
            cursor = _number(line)
    return DONE


def _after(target: Target, cursor: str | None, tenant: str | None) -> Iterator[dict[str, Any]]:
    """The lines after ``cursor``, page by page."""
    while True:
        query = {"limit": str(_PAGE), "after": cursor, "tenant": tenant}
        given = {key: value for key, value in query.items() if value is not None}
        page = understand(AuditPage, request(target, "GET", "/v1/audit", query=given))
        yield from page.lines
        if page.next is None:
            return
        cursor = page.next


def _number(line: dict[str, Any]) -> str:
    return str(line.get("n", ""))


def _show(line: dict[str, Any], target: Target) -> None:
    if target.json:
        screen.show_json(line, indent=None)
        return
    parts = [str(line[key]) for key in _SHOWN if line.get(key) not in (None, "")]
    changed = [f"{key}={json.dumps(line[key], ensure_ascii=False)}" for key in ("before", "after") if line.get(key)]
    screen.say(screen.one_line("  ".join([_number(line), *parts, *changed])))


def verify(*, target: Target = HERE) -> int:
    """Walk the audit log's chain of hashes, and say where it was edited, cut or put out of order.

    Without `--url` the files in the state directory are read, also where no gateway runs.
    """
    findings = _over_the_wire(target) if target.url is not None else _on_disk(target)
    if target.json:
        screen.show_json({"ok": not findings, "findings": findings})
        return FAILED if findings else DONE
    for finding in findings:
        screen.note(finding)
    if findings:
        screen.say(f"The record is not whole: {len(findings)} finding{'s' * (len(findings) != 1)}.")
        return FAILED
    screen.say("The record is whole: no line was edited, removed, moved or added by another hand.")
    if target.url is not None:
        screen.note("Whether its end was cut off is seen only in the state directory: run this there without --url.")
    return DONE


def _on_disk(target: Target) -> list[str]:
    from carrel.audit.log import verify_directory  # noqa: PLC0415 - the log's writer, which other commands do without

    path = target.state / "audit"
    if not path.is_dir():
        raise Refused(
            f"There is no record at {path}: --state-dir says where the gateway keeps its own.", code="not_found"
        )
    findings: list[str] = []
    for look in range(_LOOKS):
        # A gateway that writes meanwhile looks like a fault for a moment; a fault is there at every look.
        if look:
            time.sleep(0.1)
        try:
            findings = [str(finding) for finding in verify_directory(path)]
        except OSError as error:
            raise Refused(f"The record at {path} cannot be read: {error.strerror}.", code="unreadable") from error
        if not findings:
            break
    return findings


def _over_the_wire(target: Target) -> list[str]:
    from carrel.audit.chain import Head, follow  # noqa: PLC0415 - as above

    lines = (json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in _after(target, None, None))
    findings, _ = follow("record", lines, Head())
    return [str(finding) for finding in findings]
