"""`carrel doctor`: the common faults of a machine and an installation, each with what mends it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
    host: Annotated[
        Path | None,
        Parameter(help="A machine's settings, as `services.carrel` writes them: where all is; else its unit's own."),
    ] = None,
    offline: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Ask no provider, object store or other host.")
    ] = False,
    target: Target = HERE,
) -> int:
    """Look for the common faults of this machine and this installation, and say why each matters and what mends it."""
    told = _told(directory, listen, host, target)
    findings = list(examine(told, secrets_dir, offline=offline))
    faults = sum(finding.state == "fault" for finding in findings)
    if target.json:
        shown = [{**asdict(finding), "why": finding.why if finding.state != "ok" else ""} for finding in findings]
        screen.show_json({"ok": not faults, "findings": shown})
        return FAILED if faults else DONE
    for finding in findings:
        screen.say(f"{_MARKS[finding.state]}  {finding.what}: {screen.one_line(finding.text)}")
        if finding.state != "ok":
            for more in filter(None, (finding.why, finding.mend)):
                screen.say(f"         {screen.one_line(more)}")
    screen.say()
    screen.say("Nothing is at fault." if not faults else f"{faults} fault{'s' * (faults != 1)}.")
    return FAILED if faults else DONE


@dataclass(frozen=True, slots=True)
class _Told:
    """Where all is, by the words and a machine's settings."""

    directory: Path | None
    address: tuple[str, int]
    target: Target
    launcher: Path | None = None


def _told(directory: Path | None, listen: str, host: Path | None, target: Target) -> _Told:
    address = parse_listen(listen)
    if host is None and directory is None and target.state_dir is None and target.url is None:
        from carrel.cli.unit import host_file  # noqa: PLC0415 - only where nothing is said

        host = host_file()
    if host is None:
        return _Told(directory, address, target)
    from carrel.declare.host import read_host  # noqa: PLC0415 - only where it is said

    settings = read_host(host)
    return _Told(
        directory or (Path(settings.tenants_dir) if settings.git is None else None),
        (settings.listen.address, settings.listen.port),
        target if target.state_dir is not None else replace(target, state_dir=Path(settings.state_dir)),
        Path(settings.launcher) if settings.launcher is not None else None,
    )


def examine(told: _Told, secrets_dir: Path | None, *, offline: bool) -> Iterator[Finding]:
    """Every finding, in the order in which one rests on another."""
    directory, target, address = told.directory, told.target, told.address
    from carrel.cli import by_git, installation, looks, outside  # noqa: PLC0415 - all that they look at, which other commands do without

    answer = _status(target)
    if target.url is None:
        place = directory or (Path(answer["tenants_dir"]) if _names_its_own(answer) else DEFAULT_DIR)
        seen = looks.Seen(answer, target.state, place, secrets_dir, offline, told.launcher)
        for look in looks.LOOKS:
            yield from look(seen)
    elif not offline:
        yield from outside.certificates([target.url])
    yield installation.reached(answer, target, address)
    if not isinstance(answer, CarrelError):
        yield from installation.serving(answer)
        yield from by_git.followed(answer)


def _names_its_own(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("tenants_dir"), str)


def _status(target: Target) -> Any:
    try:
        return request(target, "GET", "/v1/status")
    except CarrelError as error:
        return error
