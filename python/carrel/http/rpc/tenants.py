"""`health` and `tenants.*`."""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from pydantic import TypeAdapter

from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import Services
from carrel.metering.account import QuotaState
from carrel.metering.report import ReportRow, totals_of
from carrel.policy.names import agents_of
from carrel.policy.periods import Period, months_back, parse_period
from carrel.policy.pricing import plain
from carrel.tenancy.handle import Tenant
from carrel.wire import rpc
from carrel.wire.control import Actor, TenantStatus, TokenRotate

_ANY: Final = TypeAdapter[object](object)


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("health")(health)
    registry.method("tenants.get")(get)
    registry.method("tenants.status")(status)
    registry.method("tenants.rotate", scope="admin", changes=True, secret=True)(rotate)
    registry.method("tenants.usage")(usage)
    registry.method("tenants.usage.history")(usage_history)
    registry.method("tenants.delete", scope="admin", changes=True)(delete)
    registry.method("tenants.quota.status")(quota_status)


async def health(context: Context, params: rpc.HealthParams) -> rpc.Health:
    """Whether the tenant is served, with its agents, channels and newest sessions."""
    rooms = context.services.engines
    clock = context.services.clock
    began = clock.monotonic()
    sessions = await context.services.sessions.list(context.tenant)
    return rpc.Health(
        ok=context.tenant.ready and not context.tenant.suspended,
        ts=int(clock.now().timestamp() * 1000),
        duration_ms=int((clock.monotonic() - began) * 1000),
        channels={}
        if rooms is None
        else {name: {"connected": connected} for name, connected in rooms.channels.connected(context.tenant).items()},
        agents=agents_of(context.tenant),
        sessions=rpc.SessionCount(count=len(sessions), recent=tuple(s.session_id for s in sessions[:5])),
    )


async def get(context: Context, params: rpc.TenantsGetParams) -> rpc.TenantInfo:
    """The calling tenant."""
    tenant = context.tenant
    return rpc.TenantInfo(
        tenant_id=tenant.id,
        display_name=tenant.config.display_name,
        plan=tenant.config.plan,
        disabled=tenant.suspended,
        revision=tenant.revision,
        problem=tenant.problem,
        agents=agents_of(tenant),
    )


async def status(context: Context, params: rpc.TenantsStatusParams) -> rpc.TenantStanding:
    """How what is declared of the calling tenant took effect."""
    told = _ANY.dump_python(await context.services.reconciler.tenant_status(context.tenant.id), mode="json")
    found = TenantStatus.model_validate(told)
    return rpc.TenantStanding(
        tenant_id=found.id,
        state=found.state,
        reason=found.reason,
        message=found.message,
        observed_revision=found.observed_revision,
        applied_revision=found.applied_revision,
        conditions=tuple(
            rpc.Condition(
                type=one.type,
                status=one.status,
                reason=one.reason,
                message=one.message,
                last_transition_ms=int(one.last_transition_time.timestamp() * 1000) if one.last_transition_time else 0,
            )
            for one in found.conditions
        ),
    )


async def rotate(context: Context, params: rpc.RotateParams) -> rpc.Rotated:
    """Replace a token by a new one, shown this once; the old one ends with its streams."""
    order = TokenRotate(name=params.name or context.token_name)
    by = Actor(context.actor, context.request_id)
    administration, member = context.services.administration, context.tenant.member
    issued = await administration.token_rotate(context.tenant.id, order, by=by, member=member)
    return rpc.Rotated(tenant_id=context.tenant.id, token=issued.token)


async def usage(context: Context, params: rpc.UsageParams) -> rpc.Usage:
    """What a period's calls used and cost."""
    period = parse_period(params.period, context.services.clock.now())
    rows = await context.services.meter.report(context.tenant, period)
    total = totals_of(rows)
    disk = context.services.disk if params.refresh_disk else None
    taken = await disk.taken(context.tenant) if disk is not None else (None, None)
    return rpc.Usage(
        tenant_id=context.tenant.id,
        period=params.period,
        input_tokens=total.tokens_in,
        output_tokens=total.tokens_out,
        cached_tokens=total.tokens_cached,
        reasoning_tokens=total.reasoning_tokens,
        total_tokens=total.tokens,
        tool_calls=total.tool_calls,
        total_cost_usd=plain(total.cost_usd),
        total_cost_cents=_cents(total.cost_usd),
        total_sessions=len(await context.services.sessions.list(context.tenant)),
        disk_bytes=taken[0],
        disk_files=taken[1],
        rows=tuple(map(report_row, rows)),
    )


async def usage_history(context: Context, params: rpc.UsageHistoryParams) -> rpc.UsageHistory:
    """What each of the last months' calls used and cost."""
    months = months_back(params.months, context.services.clock.now())
    rows = await context.services.meter.report(context.tenant, Period(months[-1].first, months[0].last))
    totals = [(month, totals_of([row for row in rows if month.first <= row.date <= month.last])) for month in months]
    return rpc.UsageHistory(
        tenant_id=context.tenant.id,
        history=tuple(
            rpc.MonthUsage(
                month=f"{month.first:%Y-%m}", input_tokens=total.tokens_in, output_tokens=total.tokens_out,
                cached_tokens=total.tokens_cached, reasoning_tokens=total.reasoning_tokens, total_tokens=total.tokens,
                tool_calls=total.tool_calls, total_cost_usd=plain(total.cost_usd),
                total_cost_cents=_cents(total.cost_usd),
            )
            for month, total in totals
        ),
    )  # fmt: skip


async def delete(context: Context, params: rpc.DeleteParams) -> rpc.Deleted:
    """Give the tenant up: it is suspended at once, and deleted after the operator's time of grace."""
    by = Actor(context.actor, context.request_id)
    removed = await context.services.administration.remove(context.tenant.id, purge=False, by=by)
    return rpc.Deleted(deleted=True, tenant_id=removed.id)


async def quota_status(context: Context, params: rpc.QuotaParams) -> rpc.QuotaStatus:
    """Every quota in use, and whether the tenant is blocked by one."""
    calls = await context.services.meter.quota_status(context.tenant)
    disk = await disk_states(context.services, context.tenant)
    lines = tuple(map(quota_line, (*calls, *disk)))
    tokens, cost = _family(calls, "tokens_"), _family(calls, "cost_")
    return rpc.QuotaStatus(
        tenant_id=context.tenant.id,
        token_usage_percent=_percent(tokens),
        cost_usage_percent=_percent(cost),
        is_over_token_limit=any(map(_is_over, tokens)),
        disk_usage_percent=_percent(disk),
        is_over_cost_limit=any(map(_is_over, cost)),
        is_over_disk_limit=any(map(_is_over, disk)),
        is_blocked=any(map(_is_over, calls)),
        quotas=lines,
    )


async def disk_states(services: Services, tenant: Tenant) -> Sequence[QuotaState]:
    """The quotas of the disk in use; none where nothing measures it."""
    return () if services.disk is None else await services.disk.quota_status(tenant)


def report_row(row: ReportRow) -> rpc.UsageRow:
    """A line of the report as JSON has it: the cost as exact text."""
    return rpc.UsageRow(
        date=row.date.isoformat(),
        tenant=row.tenant,
        model=row.model,
        tokens_in=row.tokens_in,
        tokens_out=row.tokens_out,
        tokens_cached=row.tokens_cached,
        reasoning_tokens=row.reasoning_tokens,
        tool_calls=row.tool_calls,
        cost_usd=plain(row.cost_usd),
    )


def quota_line(state: QuotaState) -> rpc.QuotaLine:
    """One quota as JSON has it: numbers as exact text."""
    return rpc.QuotaLine(
        name=state.name,
        used=_text(state.used),
        reserved=_text(state.reserved),
        hard=None if state.hard is None else _text(state.hard),
        soft=None if state.soft is None else _text(state.soft),
        reset_at=None if state.reset_at is None else state.reset_at.isoformat(),
        over_hard=_is_over(state),
        over_soft=state.soft is not None and state.used >= state.soft,
    )


def _cents(cost: Decimal) -> int:
    return int((cost * 100).to_integral_value(ROUND_HALF_UP))


def _family(states: Sequence[QuotaState], prefix: str) -> list[QuotaState]:
    return [s for s in states if s.name.startswith(prefix)]


def _is_over(state: QuotaState) -> bool:
    return state.hard is not None and state.used >= state.hard


def _percent(states: Sequence[QuotaState]) -> float:
    """The fullest of ``states``, in per cent of its hard limit."""
    shares = [
        100.0 if not s.hard else float(Decimal(s.used) * 100 / Decimal(s.hard)) for s in states if s.hard is not None
    ]
    return round(max(shares, default=0.0), 2)


def _text(value: int | Decimal) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)
