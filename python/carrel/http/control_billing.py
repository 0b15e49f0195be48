"""The control plane of the bill: reports of use, invoices, and the recount of what both rest on."""

from typing import Final, cast, get_args

from aiohttp import web

from carrel.errors import Forbidden, InvalidRequest
from carrel.http.auth import OperatorCaller
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Query, Route
from carrel.http.rpc.tenants import report_row
from carrel.metering.invoice import Line
from carrel.metering.report import to_csv, totals_of
from carrel.metering.rollups import Split
from carrel.policy.periods import Period, parse_period
from carrel.policy.pricing import plain
from carrel.wire import billing, control


async def show_usage(exchange: Exchange) -> web.StreamResponse:
    """The report of a period, as JSON or with `format=csv` in the contract's columns; an operator may split it `by`."""
    tenant = exchange.subject_or_self()
    shape = exchange.request.query.get("format", "json")
    if shape not in ("json", "csv"):
        raise InvalidRequest("`format` is `json` or `csv`.", param="format")
    text, period = _period(exchange)
    split = _split(exchange)
    rows = await exchange.services.meter.report(tenant, period, split=split)
    if shape == "csv":
        return web.Response(text=to_csv(rows, split), content_type="text/csv")
    lines = tuple(control.UsageRow.model_validate({**report_row(row).model_dump(), "key": row.key}) for row in rows)
    report = control.UsageReport(
        tenant=tenant.id,
        period=text,
        first=period.first.isoformat(),
        last=period.last.isoformat(),
        rows=lines,
        total_cost_usd=plain(totals_of(rows).cost_usd),
    )
    asked = exchange.request.query
    if "limit" not in asked and "cursor" not in asked:
        return reply(report)
    return page(exchange, report, "rows", lambda row: (row.date, row.model, row.key or ""))


def _split(exchange: Exchange) -> Split | None:
    """What the report is by beside day and model. The ids of sessions are no matter of every token's."""
    text = exchange.request.query.get("by", "model")
    if text == "model":
        return None
    if text not in get_args(Split):
        raise InvalidRequest("`by` is `model`, `agent`, `session`, `member` or `key`.", param="by")
    if not isinstance(exchange.caller, OperatorCaller):
        raise Forbidden("A report by anything but the model is the operator's.")
    return cast(Split, text)


async def show_invoice(exchange: Exchange) -> web.StreamResponse:
    """What a tenant owes for a period, each charge with its arithmetic."""
    tenant = exchange.subject()
    text, period = _period(exchange)
    made = await exchange.services.meter.invoice(tenant, exchange.snapshot, period)
    return reply(billing.Invoice(
        tenant=tenant.id, period=text, first=period.first.isoformat(), last=period.last.isoformat(),
        lines=tuple(map(_line, made.lines)), total_usd=plain(made.total),
    ))  # fmt: skip


async def show_recount(exchange: Exchange) -> web.StreamResponse:
    """Every row of a tenant's ledger counted anew."""
    tenant = exchange.subject()
    found = await exchange.services.meter.recount(tenant)
    wrong = tuple(billing.WrongDay(date=day, model=model) for day, model in found.wrong)
    return reply(billing.Recounted(tenant=tenant.id, calls=found.calls, wrong=wrong))


async def show_counting(exchange: Exchange) -> web.StreamResponse:
    """How far that is."""
    at = exchange.services.meter.counting(exchange.subject())
    if at is None:
        return reply(billing.RecountView(running=False))
    return reply(billing.RecountView(running=True, done=at.done, total=at.total, eta_seconds=at.eta))


def _line(line: Line) -> billing.InvoiceLine:
    parts = tuple(
        billing.InvoicePart(
            token_class=part.token_class, tokens=part.tokens, rate_usd_per_million=plain(part.rate),
            factor=plain(part.factor), amount_usd=plain(part.amount), text=part.text,
        )
        for part in line.parts
    )  # fmt: skip
    of = line.of
    if of is None:
        return billing.InvoiceLine(text=line.text, amount_usd=plain(line.amount))
    return billing.InvoiceLine(
        text=line.text, amount_usd=plain(line.amount), calls=line.calls, model=of.model, byo=of.byo,
        over_tokens=of.tier, plan=of.plan, plan_hash=of.plan_hash, rate_card_hash=of.card_hash, parts=parts,
    )  # fmt: skip


def _period(exchange: Exchange) -> tuple[str, Period]:
    text = exchange.request.query.get("period", "current-month")
    return text, parse_period(text, exchange.services.clock.now())


_PERIOD: Final = Query("period", "`today`, `yesterday`, `current-month`, `last-month`, a date or `A..B`.")
_SPLITS: Final = "^(model|agent|session|member|key)$"
_BY: Final = Query("by", "`model`, or for an operator `agent`, `session`, `member` or `key`.", _SPLITS)
_ROWS: Final = (
    PAGING[0],
    Query("limit", "1 to 1000 of the rows as JSON; all of them by default. The total is of all.", "^[0-9]{1,4}$"),
)
_FORMAT: Final = Query("format", "`json` or `csv`.", "^(json|csv)$")

ROUTES: Final = (
    Route("GET", "/v1/tenants/{id}/usage", show_usage, "billing:read", "The report of a period.", own=True,
          result=control.UsageReport, query=(_PERIOD, _FORMAT, _BY, *_ROWS)),
    Route("GET", "/v1/tenants/{id}/usage/recount", show_recount, "billing:read", "The ledger counted anew.",
          result=billing.Recounted),
    Route("GET", "/v1/tenants/{id}/usage/recount/running", show_counting, "billing:read", "How far a recount is.",
          result=billing.RecountView),
    Route("GET", "/v1/tenants/{id}/invoice", show_invoice, "billing:read", "What a tenant owes, and why.",
          result=billing.Invoice, query=(_PERIOD,)),
)  # fmt: skip
