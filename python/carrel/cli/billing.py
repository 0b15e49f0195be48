"""`carrel billing`: what a tenant's calls cost."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import LONGEST_SECONDS, Client, ask, request, request_text, understand
from carrel.cli.failures import DONE, FAILED, Refused, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.orders import tenant_path
from carrel.cli.progress import At, looking
from carrel.cli.tenants import TenantArgument
from carrel.clock import SystemClock
from carrel.errors import InvalidRequest
from carrel.policy.periods import parse_period
from carrel.wire import billing, control

_CLASSES: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")
PeriodOption = Annotated[
    str, Parameter(help="`today`, `yesterday`, `current-month`, `last-month`, a date or `A..B`, in UTC.")
]


def push(
    *,
    to: Annotated[Literal["stripe"], Parameter(help="Where to.")] = "stripe",
    target: Target = HERE,
) -> int:
    """Hand over what is owed to a payment provider. There is none yet: it says what there is instead."""
    raise Refused(
        f"Pushing bills to {to.capitalize()} is not in this version. `carrel billing invoice ID --json` gives each "
        "charge with its arithmetic, and `carrel billing report ID --csv` the rows, for a job of your own.",
        code="not_available",
    )


def report(
    tenant: TenantArgument,
    /,
    *,
    period: PeriodOption = "current-month",
    by: Annotated[
        Literal["model", "agent", "session", "member", "key"],
        Parameter(
            help="Split each day and model by this, too; `key` is whose provider key it was. CSV has a column more."
        ),
    ] = "model",
    csv: Annotated[
        bool, Parameter(negative=(), show_default=False, help="As CSV, a line for each day and model.")
    ] = False,
    target: Target = HERE,
) -> int:
    """Report a tenant's use by day and model, or by agent, session, member or key besides."""
    if csv and target.json:
        raise WrongUsage("--csv and --json are two forms of one report: say one of them.")
    _check(period)
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


def invoice(tenant: TenantArgument, /, *, period: PeriodOption = "current-month", target: Target = HERE) -> int:
    """Show what a tenant owes for a period, with the arithmetic of each charge."""
    _check(period)
    document = request(target, "GET", tenant_path(tenant, "invoice"), query={"period": period})
    if target.json:
        screen.show_json(document)
        return DONE
    made = understand(billing.Invoice, document)
    screen.say(f"Invoice of {made.tenant}, {made.first} to {made.last} (UTC)")
    for line in made.lines:
        screen.say()
        screen.say(f"{line.text}: ${line.amount_usd}")
        for part in line.parts:
            screen.say(f"    {part.text}")
        if line.model is not None:
            plan = f", plan {line.plan} ({line.plan_hash[:12]})" if line.plan else ""
            screen.say(f"    rates of the card {line.rate_card_hash[:12]}{plan}")
    screen.say()
    screen.say(f"Total: ${made.total_usd}")
    return DONE


def rates(*, target: Target = HERE) -> int:
    """Show the rate card in force: US dollars per 1,000,000 tokens, and what they are multiplied by."""
    document = request(target, "GET", "/v1/rate-card")
    if target.json:
        screen.show_json(document)
        return DONE
    told = understand(billing.RateCardView, document)
    card = told.rate_card
    rows = [(name, *(_rate(rates, column) for column in _CLASSES)) for name, rates in sorted(card.models.items())]
    if card.otherwise is not None:
        rows.append(("(any other)", *(_rate(card.otherwise, column) for column in _CLASSES)))
    screen.table(("MODEL", *(column.upper() for column in _CLASSES)), rows)
    screen.say(f"times {card.markup}, with a tenant's own key times {card.byo_markup}; rate card {told.hash[:12]}")
    return DONE


def _rate(rates: Mapping[str, object], column: str) -> str | None:
    value = rates.get(column)
    return None if value is None else str(value)


def verify(tenant: TenantArgument, /, *, target: Target = HERE) -> int:
    """Count every row of a tenant's ledger anew, and hold that against the sums that its reports are made of."""
    path = tenant_path(tenant, "usage", "recount")

    async def work() -> Any:
        async with Client(target) as client, looking(client, f"{path}/running", _at, target, unit="rows"):
            return await client.send("GET", path, patience=LONGEST_SECONDS)

    document = ask(work())
    found = understand(billing.Recounted, document)
    if target.json:
        screen.show_json(document)
    elif not found.wrong:
        screen.say(f"The sums are right: they are what the {found.calls:,} rows of {tenant} make.")
    else:
        screen.table(("DATE", "MODEL"), [(day.date, day.model) for day in found.wrong])
        screen.note("On these days the sums are not what the rows make; the rows are what was charged.")
    return FAILED if found.wrong else DONE


def _at(document: Any) -> At | None:
    view = understand(billing.RecountView, document)
    phase = "counting" if view.total else "waiting"
    return At(phase, view.done, view.total, view.model_dump(mode="json")) if view.running else None


def _check(period: str) -> None:
    try:
        parse_period(period, SystemClock().now())
    except InvalidRequest as error:
        raise WrongUsage(f"--period: {error.message}") from error
