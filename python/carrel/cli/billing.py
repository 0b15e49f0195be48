"""`carrel billing`: what a tenant's calls cost."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, request_text, understand
from carrel.cli.failures import DONE, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.clock import SystemClock
from carrel.errors import InvalidRequest
from carrel.policy.periods import parse_period
from carrel.wire import control


def report(
    tenant: TenantArgument,
    /,
    *,
    period: Annotated[
        str, Parameter(help="`today`, `yesterday`, `current-month`, `last-month`, a date or `A..B`, in UTC.")
    ] = "current-month",
    by: Annotated[
        Literal["model", "agent", "session", "member"],
        Parameter(help="Split each day and model by this, too. Behind the columns of CSV is one more for it."),
    ] = "model",
    csv: Annotated[
        bool, Parameter(negative=(), show_default=False, help="As CSV, a line for each day and model.")
    ] = False,
    target: Target = HERE,
) -> int:
    """Report a tenant's use by day and model, or by agent, session or member besides."""
    if csv and target.json:
        raise WrongUsage("--csv and --json are two forms of one report: say one of them.")
    try:
        parse_period(period, SystemClock().now())
    except InvalidRequest as error:
        raise WrongUsage(f"--period: {error.message}") from error
    path = tenant_path(tenant, "usage")
    if csv:
        sys.stdout.write(screen.clean(request_text(target, path, {"period": period, "format": "csv", "by": by})))
        return DONE
    document = request(target, "GET", path, query={"period": period, "by": by})
    if target.json:
        screen.show_json(document)
        return DONE
    usage = understand(control.UsageReport, document)
    rows = [(*_row(row), *(() if row.key is None else (row.key or "-",))) for row in usage.rows]
    more = () if by == "model" else (by.upper(),)
    screen.table(("DATE", "MODEL", "IN", "OUT", "CACHED", "REASONING", "TOOL CALLS", "USD", *more), rows)
    screen.say(f"{usage.tenant}, {usage.first} to {usage.last}: {usage.total_cost_usd} USD")
    return DONE


def _row(row: control.UsageRow) -> tuple[str, ...]:
    counts = (row.tokens_in, row.tokens_out, row.tokens_cached, row.reasoning_tokens, row.tool_calls)
    return (row.date, row.model, *map(str, counts), row.cost_usd)
