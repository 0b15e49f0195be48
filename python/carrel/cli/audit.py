"""`carrel audit`: who changed what, and whether the record of it is whole."""

import json
import re
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.audit_copies import PAGE, copy_out, pages
from carrel.cli.client import understand, whole
from carrel.cli.failures import DONE, FAILED, GatewayUnreachable, Refused, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.errors import CarrelError
from carrel.wire.control import AuditEnds

_FOLLOW_SECONDS: Final = 1.0
_LOOKS: Final = 4
_LOOK_SECONDS: Final = 0.1
_SHOWN: Final = ("time", "actor", "action", "target", "outcome", "request_id")
_AGO: Final = re.compile(r"([0-9]{1,6})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

Tenant = Annotated[str | None, Parameter(help="Only lines about this tenant.")]
Since = Annotated[
    str | None,
    Parameter(help="Only lines from then on: `2026-03-01`, a time with its offset, or `90m`, `12h`, `7d` ago."),
]
Until = Annotated[str | None, Parameter(help="Only lines before then, told as for --since.")]


def tail(
    *,
    lines: Annotated[int, Parameter(name=("--lines", "-n"), help="How many of the last lines to show.")] = 20,
    tenant: Tenant = None,
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
    last = list(_take(target, lines, {"tenant": tenant, "order": "newest"}))[::-1]
    for line in last:
        _show(line, target)
    if not last and not follow and lines:
        screen.note("There is no such line in the record." if tenant is None else f"No line is about {tenant}.")
    if follow:
        # Without a line of this tenant's, what is new is what comes after the record's last one.
        newest = last[-1:] or list(_take(target, 1, {"order": "newest"}))
        _follow(target, tenant, _number(newest[-1]) if newest else None)
    return DONE


def _follow(target: Target, tenant: str | None, cursor: str | None) -> None:
    """Show what comes after the line ``cursor``, for ever: a gateway that is started anew goes on with its numbers."""
    away = False
    while True:
        time.sleep(_FOLLOW_SECONDS)
        try:
            for line in pages(target, {"tenant": tenant, "cursor": cursor}):
                _show(line, target)
                cursor = _number(line)
            away = False
        except GatewayUnreachable as error:
            if not away:
                screen.note(f"{error.message} What comes then is shown.")
            away = True


def search(
    text: Annotated[str | None, Parameter(help="Only lines with this in them, capital or small.")] = None,
    *,
    tenant: Tenant = None,
    actor: Annotated[str | None, Parameter(help="Only what this one did: `ak_ops`, `uid:0`, `git:ana`.")] = None,
    action: Annotated[str | None, Parameter(help="Only this action, or `tokens.*` for all of a kind.")] = None,
    of: Annotated[str | None, Parameter(name="--of", help="Only what was done to this target.")] = None,
    outcome: Annotated[str | None, Parameter(help="Only lines with this outcome.")] = None,
    request_id: Annotated[str | None, Parameter(help="Only lines of this request.")] = None,
    since: Since = None,
    until: Until = None,
    lines: Annotated[int, Parameter(name=("--lines", "-n"), help="How many of the newest to show.")] = 100,
    target: Target = HERE,
) -> int:
    """Find lines of the audit log; the newest of them are shown, oldest first."""
    if lines < 1:
        raise WrongUsage("--lines takes 1 or more.")
    asked = {
        "text": text, "tenant": tenant, "actor": actor, "action": action, "target": of, "outcome": outcome,
        "request_id": request_id, "since": _moment("--since", since), "until": _moment("--until", until),
        "order": "newest",
    }  # fmt: skip
    found = list(_take(target, lines + 1, asked))
    for line in found[:lines][::-1]:
        _show(line, target)
    if not found:
        screen.note("There is no such line in the record.")
    elif len(found) > lines:
        screen.note(f"There are more before these: --lines says how many are shown, and {lines} were.")
    return DONE


def key(*, target: Target = HERE) -> int:
    """Print the public key that signs the audit log's ends, as PEM: keep it away from the gateway."""
    ends = understand(AuditEnds, whole(target, "/v1/audit/ends", "days"))
    if target.json:
        screen.show_json({"key": ends.key, "public_key": ends.public_key})
    else:
        screen.say(ends.public_key.rstrip("\n"))
    return DONE


def mark(*, target: Target = HERE) -> int:
    """Print how far the audit log goes now, signed: kept away from the gateway, `verify --mark` holds it against it."""
    ends = understand(AuditEnds, whole(target, "/v1/audit/ends", "days"))
    if ends.end is None:
        raise Refused("There is no line in the record yet.", code="not_found")
    screen.show_json(ends.end.model_dump(mode="json"), indent=None)
    return DONE


def export(
    directory: Annotated[Path, Parameter(help="A new directory for it.")],
    *,
    since: Annotated[str | None, Parameter(help="The first day, `2026-03-01`; the first there is by default.")] = None,
    until: Annotated[str | None, Parameter(help="The last day; today by default.")] = None,
    target: Target = HERE,
) -> int:
    """Copy days of the audit log, byte for byte, with their signed ends and the key; `verify --from` reads that."""
    count = copy_out(target, directory, first=_day("--since", since), last=_day("--until", until))
    if target.json:
        screen.show_json({"lines": count, "directory": str(directory)})
    else:
        screen.say(
            f"{count} lines are in {directory}: `carrel audit verify --from {directory}` holds them to be whole."
        )
    return DONE


def verify(
    *,
    from_: Annotated[Path | None, Parameter(name="--from", help="Read a directory that `export` made instead.")] = None,
    key: Annotated[
        tuple[Path, ...],
        Parameter(
            negative=(),
            show_default=False,
            help="Believe this public key (PEM) alone, and not the one that lies beside the record; repeatable.",
        ),
    ] = (),
    mark: Annotated[
        tuple[Path, ...],
        Parameter(negative=(), show_default=False, help="What `carrel audit mark` printed once; repeatable."),
    ] = (),
    target: Target = HERE,
) -> int:
    """Walk the audit log's chain of hashes and its signed ends, and say where it was edited, cut or put out of order.

    Without `--url` the files in the state directory are read, also where no gateway runs.
    """
    try:
        if from_ is not None:
            findings, notes = look(from_, key or (from_ / "audit-signing-key.pub",), mark, part=True)
        elif target.url is not None:
            findings, notes = _over_the_wire(target, key, mark)
        else:
            findings, notes = _on_disk(target, key, mark)
    except CarrelError as error:
        raise Refused(error.message, code=error.code) from error
    if target.json:
        screen.show_json({"ok": not findings, "findings": findings, "notes": notes})
        return FAILED if findings else DONE
    for note in notes:
        screen.note(note)
    for finding in findings:
        screen.note(finding)
    if findings:
        screen.say(f"The record is not whole: {len(findings)} finding{'s' * (len(findings) != 1)}.")
        return FAILED
    screen.say("The record is whole: no line was edited, removed, moved or added by another hand.")
    return DONE


def _on_disk(target: Target, keys: tuple[Path, ...], marks: tuple[Path, ...]) -> tuple[list[str], list[str]]:
    path = target.state / "audit"
    if not path.is_dir():
        raise Refused(
            f"There is no record at {path}: --state-dir says where the gateway keeps its own.", code="not_found"
        )
    own = (target.state / "audit-mark.json",)
    return look(path, keys or (target.state / "audit-signing-key.pub",), (*own, *marks), part=False)


def look(path: Path, keys: tuple[Path, ...], marks: tuple[Path, ...], *, part: bool) -> tuple[list[str], list[str]]:
    """What is wrong, and what the record says itself of how it was found at a start."""
    # The reader of the record brings a library of signatures, which other commands do without.
    from carrel.audit.keys import trusted_keys  # noqa: PLC0415
    from carrel.audit.verify import mended, verify_directory  # noqa: PLC0415

    trusted = trusted_keys(keys)
    looks = 1 if part else _LOOKS
    try:
        found = verify_directory(path, trusted, marks, part=part, looks=looks, pause=lambda: time.sleep(_LOOK_SECONDS))
        return list(map(str, found)), [str(note) for note in mended(path)]
    except OSError as error:
        raise Refused(f"The record at {path} cannot be read: {error.strerror}.", code="unreadable") from error


def _over_the_wire(target: Target, keys: tuple[Path, ...], marks: tuple[Path, ...]) -> tuple[list[str], list[str]]:
    with tempfile.TemporaryDirectory(prefix="carrel-audit-") as temporary:
        copy = Path(temporary) / "record"
        copy_out(target, copy, first=None, last=None)
        return look(copy, keys or (copy / "audit-signing-key.pub",), marks, part=True)


def _take(target: Target, count: int, asked: dict[str, str | None]) -> Iterator[dict[str, Any]]:
    """At most ``count`` of the lines that are asked for."""
    for number, line in enumerate(pages(target, asked, limit=min(PAGE, max(1, count)))):
        if number >= count:
            return
        yield line


def _number(line: dict[str, Any]) -> str:
    return str(line.get("n", ""))


def _show(line: dict[str, Any], target: Target) -> None:
    if target.json:
        screen.show_json(line, indent=None)
        return
    parts = [str(line[key]) for key in _SHOWN if line.get(key) not in (None, "")]
    changed = [f"{key}={json.dumps(line[key], ensure_ascii=False)}" for key in ("before", "after") if line.get(key)]
    screen.say(screen.one_line("  ".join([_number(line), *parts, *changed])))


def _moment(option: str, text: str | None) -> str | None:
    """A time as the control plane takes it."""
    if text is None:
        return None
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            when = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            when = datetime.fromisoformat(text)
            if "T" not in text and " " not in text:
                when = when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WrongUsage(f"{option} takes `2026-03-01`, a time with its offset, or `90m`, `12h`, `7d`.") from None
    if when.tzinfo is None:
        raise WrongUsage(f"{option}: the time needs its offset: {text}+00:00, say.")
    return when.isoformat()


def _day(option: str, text: str | None) -> str | None:
    try:
        return date.fromisoformat(text).isoformat() if text is not None else None
    except ValueError:
        raise WrongUsage(f"{option} takes a day: `2026-03-01`.") from None
