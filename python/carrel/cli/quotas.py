"""`carrel tenants quota`: what a tenant may use, and what it has used."""

from datetime import datetime
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand, whole
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import NONE, order, size, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.wire import control, quotas

_FORMS: Final = (
    f"`HARD`, `HARD:SOFT` or `:SOFT`, beside which the plan's hard one holds; `{NONE}` takes what the file says away."
)
Limit = Annotated[str | None, Parameter(help=_FORMS)]
Soft = Annotated[str | None, Parameter(help=f"The soft limit: what refuses is the sandbox's. `{NONE}` takes it away.")]
Size = Annotated[str | None, Parameter(help=f"Bytes, or with a unit as `5GiB`. {_FORMS}")]


def show(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Show a tenant's quotas, and how much of each is used."""
    document = request(target, "GET", tenant_path(tenant, "quota"))
    if target.json:
        screen.show_json(document)
        return DONE
    lines = understand(control.QuotaView, document).quotas
    if not lines:
        screen.note(f"No quota is declared for {tenant}.")
        return DONE
    rows = [(q.name, q.used, q.reserved, q.soft, q.hard, _minute(q.reset_at), _standing(q)) for q in lines]
    screen.table(("QUOTA", "USED", "HELD", "SOFT", "HARD", "RESETS", "STANDS"), rows)
    return DONE


def _limit(text: str) -> object:
    """What is said of one quota; what is no number is told of by who judges the order."""
    if text == NONE:
        return None
    hard, colon, soft = text.partition(":")
    if not colon:
        return size(hard)
    return {name: size(part) for name, part in (("hard", hard), ("soft", soft)) if part and part != NONE}


def _soft(key: str, text: str) -> object:
    """What is said of a quota that has no hard limit here: `SOFT` alone, with or without its colon."""
    hard, colon, soft = text.partition(":")
    if colon and hard:
        limit = key.removeprefix("sandbox_").removesuffix("_bytes").replace("_", "-")
        raise WrongUsage(
            f"--{key.replace('_', '-')} is a soft limit alone, as {soft or '100'}: `carrel tenants resize --{limit}` "
            "sets the hard one."
        )
    return _limit(text if colon or text == NONE else f":{text}")


def _minute(when: str | None) -> str | None:
    try:
        return None if when is None else screen.moment(datetime.fromisoformat(when))
    except ValueError:
        return when


def _standing(quota: control.QuotaLine) -> str:
    return "over" if quota.over_hard else "over soft" if quota.over_soft else "ok"


def update(
    tenant: TenantArgument,
    /,
    *,
    tokens_per_day: Limit = None,
    tokens_per_month: Limit = None,
    cost_per_day_usd: Limit = None,
    cost_per_month_usd: Limit = None,
    requests_per_second: Limit = None,
    requests_per_minute: Limit = None,
    requests_per_hour: Limit = None,
    disk_bytes: Size = None,
    disk_files: Limit = None,
    snapshots_bytes: Size = None,
    concurrent_sessions: Limit = None,
    sandbox_cpu_seconds: Soft = None,
    sandbox_memory_bytes: Soft = None,
    sandbox_pids: Soft = None,
    target: Target = HERE,
) -> int:
    """Set limits in the tenant's file. What is left out stays as it is, a soft limit beside a new hard one too."""
    given = {
        "tokens_per_day": tokens_per_day,
        "tokens_per_month": tokens_per_month,
        "cost_per_day_usd": cost_per_day_usd,
        "cost_per_month_usd": cost_per_month_usd,
        "requests_per_second": requests_per_second,
        "requests_per_minute": requests_per_minute,
        "requests_per_hour": requests_per_hour,
        "disk_bytes": disk_bytes,
        "disk_files": disk_files,
        "snapshots_bytes": snapshots_bytes,
        "concurrent_sessions": concurrent_sessions,
        "sandbox_cpu_seconds": sandbox_cpu_seconds,
        "sandbox_memory_bytes": sandbox_memory_bytes,
        "sandbox_pids": sandbox_pids,
    }
    limits = {
        key: _soft(key, text) if key.startswith("sandbox_") else _limit(text)
        for key, text in given.items()
        if text is not None
    }
    if not limits:
        raise WrongUsage("There is nothing to set: name a limit, as --tokens-per-day 100000.")
    document = request(target, "PATCH", tenant_path(tenant, "quota"), order(control.QuotaUpdate, limits))
    if target.json:
        screen.show_json(document)
        return DONE
    return show(tenant, target=target)


def requests(
    tenant: Annotated[str | None, Parameter(name="ID", help="One tenant's; all by default.")] = None,
    /,
    *,
    target: Target = HERE,
) -> int:
    """List what tenants ask for beyond their quotas, the newest first."""
    path = "/v1/quota-requests" if tenant is None else tenant_path(tenant, "quota", "requests")
    document = whole(target, path, "requests")
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(quotas.QuotaRequestList, document).requests
    if not found:
        screen.note("Nobody has asked for anything.")
        return DONE
    rows = [
        (one.id, one.tenant, one.quota, one.limit, one.state, one.granted, screen.moment(one.asked), one.reason)
        for one in found
    ]
    screen.table(("REQUEST", "TENANT", "QUOTA", "ASKED", "STATE", "GRANTED", "WHEN", "REASON"), rows)
    return DONE


def decide(
    tenant: TenantArgument,
    request_id: Annotated[str, Parameter(name="REQUEST", help="Its id, as `carrel tenants quota requests` shows it.")],
    decision: Annotated[Literal["approve", "reject"], Parameter(name="DECISION", help="What becomes of it.")],
    /,
    *,
    limit: Annotated[str | None, Parameter(help="Grant this limit instead of the one that is asked for.")] = None,
    note: Annotated[str, Parameter(help="What the tenant is told.")] = "",
    target: Target = HERE,
) -> int:
    """Decide a request for a higher quota. What is approved is written into the tenant's file, and in force."""
    given = {"decision": decision, "note": note, **({"limit": size(limit)} if limit is not None else {})}
    path = tenant_path(tenant, "quota", "requests", request_id, "decision")
    document = request(target, "POST", path, order(quotas.QuotaDecision, given))
    if target.json:
        screen.show_json(document)
        return DONE
    decided = understand(quotas.QuotaRequestView, document)
    granted = f", {decided.granted}" if decided.granted is not None else ""
    screen.say(f"{decided.quota} of {decided.tenant}: {decided.state}{granted}.")
    return DONE
