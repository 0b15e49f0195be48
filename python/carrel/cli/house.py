"""`carrel status` and `reconcile`: how the whole gateway stands."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.cli.plans import show_plan
from carrel.wire.control import HeldLimit, StatusReport


def status(
    *,
    watch: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
    every: Annotated[float, Parameter(help="With --watch: seconds between two looks.")] = 1.0,
    target: Target = HERE,
) -> int:
    """Show what runs, and how what is declared took effect."""
    before: Any = None
    while True:
        document = request(target, "GET", "/v1/status")
        seen = _settled(document)
        if seen != before:
            if target.json:
                screen.show_json(document, indent=None if watch else 2)
            else:
                show_status(document)
            before = seen
        if not watch:
            return DONE
        time.sleep(max(every, 0.1))


def _settled(document: Any) -> Any:
    """What of a status is worth showing again: when the last look was is not."""
    if not isinstance(document, dict):
        return document
    return {key: value for key, value in document.items() if key not in ("last_pass", "last_pass_seconds")}


def show_status(document: Any) -> None:
    """``document`` for a person: the house in lines, then its tenants in columns, then what is wrong."""
    report = understand(StatusReport, document)
    lines = {"version": report.version, "userland": report.userland, "sandbox": report.sandbox, "cgroup": report.cgroup}
    for name, value in (lines | dict(report.model_extra or {})).items():
        if name != "last_pass_seconds" and value not in (None, "", [], {}):
            _line(name.replace("_", " "), _inline(value))
    for environment in report.environments:
        reason = f": {environment.reason}" if environment.reason else ""
        _line("environment", f"{' '.join(environment.packages) or 'the base set'}: {environment.state}{reason}")
    for runtime in report.runtimes:
        _line("runtime", f"{runtime.name}: {runtime.problem or 'works'}")
    for text in _held(report.limits):
        _line("limits", text)
    _line("declared", report.state)
    for problem in report.problems:
        _line("problem", problem)
    screen.say()
    rows = [(t.id, t.state, t.plan, t.message or t.reason) for t in report.tenants]
    screen.table(("TENANT", "STATE", "PLAN", ""), rows)
    for tenant in report.tenants:
        # The first is in the message already.
        for problem in tenant.problems[1:] if tenant.message else tenant.problems:
            screen.say(f"{tenant.id}: {screen.one_line(problem)}")


def _line(name: str, text: str) -> None:
    if text:
        screen.say(f"{name:<12}  {screen.one_line(text)}")


def _held(limits: Iterable[HeldLimit]) -> Iterator[str]:
    """The limits, those together that the same thing holds."""
    together: dict[tuple[str, str], list[str]] = {}
    for held in limits:
        together.setdefault((held.scope, held.by), []).append(held.limit)
    for (scope, by), names in together.items():
        yield f"{', '.join(names)}: per {scope}, by {by}"


def _inline(value: object) -> str:
    match value:
        case Mapping():
            return ", ".join(f"{key}: {_inline(item)}" for key, item in value.items())
        case list() | tuple():
            return "; ".join(_inline(item) for item in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return screen.one_line(str(value))


def reconcile(*, target: Target = HERE) -> int:
    """Read tenants.d now, make it so, and say what changed."""
    document = request(target, "POST", "/v1/reconcile")
    if target.json:
        screen.show_json(document)
    else:
        show_plan(document)
    return DONE
