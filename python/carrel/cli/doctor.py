"""`carrel doctor`: the common faults of a machine and an installation, each with what mends it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request
from carrel.cli.declared import DEFAULT_DIR
from carrel.cli.failures import DONE, FAILED
from carrel.cli.findings import Finding, State
from carrel.cli.options import DEFAULT_HOST, DEFAULT_PORT, HERE, Target, parse_listen
from carrel.errors import CarrelError

_MARKS: Final[dict[State, str]] = {"ok": "ok     ", "warning": "warning", "fault": "FAULT  "}


def doctor(
    directory: Annotated[
        Path | None, Parameter(name="DIR", help="The declarations; else the running gateway's, or `tenants.d`.")
    ] = None,
    /,
    *,
    listen: Annotated[str, Parameter(help="As `carrel gateway` is given it.")] = f"{DEFAULT_HOST}:{DEFAULT_PORT}",
    secrets_dir: Annotated[Path | None, Parameter(help="As `carrel gateway` is given it.")] = None,
    target: Target = HERE,
) -> int:
    """Look for the common faults of this machine and this installation, and say what mends them."""
    findings = list(examine(directory, secrets_dir, target, parse_listen(listen)))
    faults = sum(finding.state == "fault" for finding in findings)
    if target.json:
        screen.show_json({"ok": not faults, "findings": [asdict(finding) for finding in findings]})
        return FAILED if faults else DONE
    for finding in findings:
        screen.say(f"{_MARKS[finding.state]}  {finding.what}: {screen.one_line(finding.text)}")
        if finding.mend and finding.state != "ok":
            screen.say(f"         {screen.one_line(finding.mend)}")
    screen.say()
    screen.say("Nothing is at fault." if not faults else f"{faults} fault{'s' * (faults != 1)}.")
    return FAILED if faults else DONE


def examine(
    directory: Path | None, secrets_dir: Path | None, target: Target, address: tuple[str, int]
) -> Iterator[Finding]:
    """Every finding, in the order in which one rests on another."""
    from carrel.cli import installation, looks  # noqa: PLC0415 - all that they look at, which other commands do without

    answer = _status(target)
    if target.url is None:
        place = directory or (Path(answer["tenants_dir"]) if _names_its_own(answer) else DEFAULT_DIR)
        seen = looks.Seen(answer, target.state, place, secrets_dir)
        for look in looks.LOOKS:
            yield from look(seen)
    yield installation.reached(answer, target, address)
    if not isinstance(answer, CarrelError):
        yield from installation.serving(answer)


def _names_its_own(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("tenants_dir"), str)


def _status(target: Target) -> Any:
    try:
        return request(target, "GET", "/v1/status")
    except CarrelError as error:
        return error
