"""`carrel status` and `reconcile`: how the whole gateway stands."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE, FAILED, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import tenant_path
from carrel.cli.plans import show_plan
from carrel.errors import InvalidRequest
from carrel.ids import parse_tenant_id
from carrel.wire.control import Condition, HeldLimit, Reconciled, StatusReport, TenantStatus

TenantOrAll = Annotated[str | None, Parameter(name="ID", help="A tenant; without one, all of them.")]


def status(
    tenant: TenantOrAll = None,
    /,
    *,
    watch: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Show it again whenever it changes, until Ctrl-C.")
    ] = False,
    every: Annotated[float, Parameter(help="With --watch: seconds between two looks.")] = 1.0,
    target: Target = HERE,
) -> int:
    """Show what runs, and how what is declared took effect; of one tenant, all its conditions and last results."""
    before: Any = None
    path = "/v1/status" if tenant is None else tenant_path(tenant, "status")
    while True:
        document = request(target, "GET", path)
        seen = _settled(document)
        if seen != before:
            if target.json:
                screen.show_json(document, indent=None if watch else 2)
            elif tenant is None:
                show_status(document)
            else:
                show_tenant_status(understand(TenantStatus, document))
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
    _show_parts(report)
    _line("declared", report.state)
    for problem in report.problems:
        _line("problem", problem)
    for condition in report.conditions:
        if condition.type != "Ready" and condition.status == "True":
            _line(condition.type.lower(), f"{condition.reason}: {condition.message}")
    for file in report.uncommitted:
        if file.startswith("_"):
            _line("drift", f"{file} has changes that are in no commit")
    for gone in report.deleted[:5]:
        _line("deleted", f"{gone.tenant} at {gone.at:%Y-%m-%dT%H:%M:%SZ}, final backup {gone.backup}")
    screen.say()
    _show_tenants(report)


def _show_parts(report: StatusReport) -> None:
    for environment in report.environments:
        reason = f": {environment.reason}" if environment.reason else ""
        _line("environment", f"{' '.join(environment.packages) or 'the base set'}: {environment.state}{reason}")
    for runtime in report.runtimes:
        _line("runtime", f"{runtime.name}: {runtime.problem or 'works'}")
    for provider in report.providers:
        waits = f", {provider.waiting} wait" if provider.waiting else ""
        failed = f", failed {provider.failures} times" if provider.failures else ""
        _line("provider", f"{provider.name}: {provider.circuit}, {provider.running} calls{waits}{failed}")
    for text in _held(report.limits):
        _line("limits", text)


def _show_tenants(report: StatusReport) -> None:
    rows = [(t.id, t.state, t.plan, t.message or t.reason) for t in report.tenants]
    screen.table(("TENANT", "STATE", "PLAN", ""), rows)
    for tenant in report.tenants:
        # The first is in the message already.
        for problem in tenant.problems[1:] if tenant.message else tenant.problems:
            screen.say(f"{tenant.id}: {screen.one_line(problem)}")
        for text in tenant.drift:
            screen.say(f"{tenant.id}: drift: {screen.one_line(text)}")


def show_tenant_status(tenant: TenantStatus) -> None:
    """One tenant for a person: its conditions, what is wrong, and how the last reconciles of it ended."""
    lines = {
        "tenant": tenant.id,
        "state": tenant.state,
        "file": tenant.file,
        "plan": tenant.plan,
        "observed": tenant.observed_revision,
        "applied": tenant.applied_revision,
        "deleted at": f"{tenant.delete_at:%Y-%m-%dT%H:%M:%SZ}" if tenant.delete_at is not None else None,
    }
    screen.facts(lines)
    screen.say()
    screen.table(("CONDITION", "STATUS", "SINCE", "REASON", ""), [_row(one) for one in tenant.conditions])
    for problem in tenant.problems:
        screen.say(screen.one_line(problem))
    for text in tenant.drift:
        screen.say(f"drift: {screen.one_line(text)}")
    if tenant.results:
        screen.say()
        rows = [(f"{one.at:%Y-%m-%dT%H:%M:%SZ}", one.outcome, one.message) for one in reversed(tenant.results)]
        screen.table(("RESULT AT", "OUTCOME", ""), rows)


def _row(condition: Condition) -> tuple[str, str, str, str, str]:
    since = condition.last_transition_time
    told = f"{since:%Y-%m-%dT%H:%M:%SZ}" if since is not None else "-"
    return condition.type, condition.status, told, condition.reason, condition.message


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


def reconcile(
    tenant: TenantOrAll = None,
    /,
    *,
    confirm: Annotated[
        str | None,
        Parameter(help="The word for removals that wait for one, as `carrel status` and `carrel plan` tell it."),
    ] = None,
    target: Target = HERE,
) -> int:
    """Read tenants.d now, make it so, try again what failed, and say what changed and what is not as it should be.

    Ends with 1 where something of what was asked for is stalled or is still being tried.
    """
    query: dict[str, str] = {}
    if tenant is not None:
        try:
            query["tenant"] = str(parse_tenant_id(tenant))
        except InvalidRequest as error:
            raise WrongUsage(error.message) from error
    if confirm is not None:
        query["confirm"] = confirm
    document = request(target, "POST", "/v1/reconcile", query=query)
    done = understand(Reconciled, document)
    if target.json:
        screen.show_json(document)
    else:
        show_plan(document)
        for one in done.tenants:
            screen.say(f"{one.id}: {one.state}: {screen.one_line(one.message or one.reason)}")
    unmet = any(one.state in ("Stalled", "Reconciling") for one in done.tenants)
    return FAILED if unmet or done.confirm else DONE
