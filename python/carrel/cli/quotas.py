"""`carrel tenants quota`: what a tenant may use, and what it has used."""

from datetime import datetime
from typing import Annotated, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.wire import control

NO_LIMIT: Final = "none"

Limit = Annotated[str | None, Parameter(help=f"`{NO_LIMIT}` takes the limit away.")]

Size = Annotated[str | None, Parameter(help=f"Bytes, or with a unit as `5GiB`. `{NO_LIMIT}` takes the limit away.")]
_UNITS: Final = {"KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


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


def _bytes(text: str | None) -> str | None:
    """``text`` with its unit multiplied out; what is none is told of by who judges the order."""
    if text is None:
        return None
    number, power = text[:-3].strip(), _UNITS.get(text[-3:])
    return str(int(number) << power) if power is not None and number.isascii() and number.isdigit() else text


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
    target: Target = HERE,
) -> int:
    """Set hard limits in the tenant's file. What is left out stays as it is."""
    given = {
        "tokens_per_day": tokens_per_day,
        "tokens_per_month": tokens_per_month,
        "cost_per_day_usd": cost_per_day_usd,
        "cost_per_month_usd": cost_per_month_usd,
        "requests_per_second": requests_per_second,
        "requests_per_minute": requests_per_minute,
        "requests_per_hour": requests_per_hour,
        "disk_bytes": _bytes(disk_bytes),
        "disk_files": disk_files,
        "snapshots_bytes": _bytes(snapshots_bytes),
    }
    limits = {key: None if text == NO_LIMIT else text for key, text in given.items() if text is not None}
    if not limits:
        raise WrongUsage("There is nothing to set: name a limit, as --tokens-per-day 100000.")
    document = request(target, "PATCH", tenant_path(tenant, "quota"), order(control.QuotaUpdate, limits))
    if target.json:
        screen.show_json(document)
        return DONE
    return show(tenant, target=target)
