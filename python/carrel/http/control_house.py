"""The control plane of the house: what is declared, what runs, what would change, and who changed what."""

from itertools import islice
from typing import Final

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from carrel.channels.service import Channels
from carrel.errors import Forbidden, InvalidRequest
from carrel.http.body import path_of
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Query, Route
from carrel.http.slices import document, members
from carrel.ids import parse_tenant_id
from carrel.wire import control
from carrel.wire.wording import wording

MOST_TROUBLES: Final = 100
_ANY: Final = TypeAdapter[object](object)


async def show_status(exchange: Exchange) -> web.StreamResponse:
    """What runs, and how what is declared took effect."""
    services = exchange.services
    stands = services.house.report() if services.house is not None else {}
    git = {"git": services.git.report()} if services.git is not None else {}
    if exchange.request.query.get("brief") == "true":
        house, tenants = await services.reconciler.briefly()
        told = {**members(house), "tenants": tenants}
    else:
        told = {**members(await services.reconciler.status())}
    channels = {"channels": _troubles(services.engines.channels)} if services.engines is not None else {}
    return await document({"version": services.version, **stands, **git, **channels, **told})


def _troubles(channels: Channels) -> list[control.ChannelTrouble]:
    failing = (one for one in channels.standing() if one[3] == "failing")
    return [
        control.ChannelTrouble(tenant=tenant, channel=channel, account=account, error=error)
        for tenant, channel, account, _, error in islice(failing, MOST_TROUBLES)
    ]


async def show_tenant_status(exchange: Exchange) -> web.StreamResponse:
    """How one tenant stands, its state looked at now."""
    told = await exchange.services.reconciler.tenant_status(exchange.subject_or_self().id)
    return reply(control.TenantStatus.model_validate(_ANY.dump_python(told, mode="json")))


async def show_plan(exchange: Exchange) -> web.StreamResponse:
    """What a reconcile would change now."""
    return await document(await exchange.services.reconciler.plan())


async def show_observed(exchange: Exchange) -> web.StreamResponse:
    """What is in force, to hold declarations against that are not the gateway's own."""
    return await document(await exchange.services.reconciler.observed())


async def reconcile(exchange: Exchange) -> web.StreamResponse:
    """Read tenants.d now and make it so."""
    query = exchange.request.query
    named, word = query.get("tenant"), query.get("confirm")
    tenant = parse_tenant_id(named) if named is not None else None
    exchange.tenant_id = tenant
    work = exchange.services.reconciler.reconcile_now(by=exchange.actor, tenant=tenant, confirm=word)
    return await document(await exchange.finish(work, name="reconcile"))


async def show_audit(exchange: Exchange) -> web.StreamResponse:
    """The audit log, page by page."""
    asked = exchange.request.query
    repeated = next((name for name in asked if len(asked.getall(name)) > 1), None)
    if repeated is not None:
        raise InvalidRequest(f"`{repeated[:64]}` is there twice.", param=repeated[:64])
    query = audit_query(dict(asked))
    limited = exchange.operator("audit:read").tenants is not None
    if limited and (query.tenant is None or not exchange.sees(parse_tenant_id(query.tenant))):
        raise Forbidden("This admin key is limited to some tenants: name one of them with `tenant`.")
    return reply(await exchange.services.audit.page(query))


async def show_audit_ends(exchange: Exchange) -> web.StreamResponse:
    """How far the audit log goes, signed."""
    return page(exchange, await exchange.services.audit.ends(), "days", lambda one: (one.day,))


def audit_query(asked: dict[str, str]) -> control.AuditQuery:
    """What a query string asks of the audit log; raises InvalidRequest."""
    try:
        return control.AuditQuery.model_validate(asked)
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        name = path_of(first["loc"])
        raise InvalidRequest(f"`{name}`: {wording(first)}.", param=name) from None


async def show_rate_card(exchange: Exchange) -> web.StreamResponse:
    """The prices in force."""
    return await document({"hash": exchange.snapshot.rate_card_hash, "rate_card": exchange.snapshot.rate_card})


async def show_plans(exchange: Exchange) -> web.StreamResponse:
    """The plans that tenants can be on."""
    told = await exchange.services.administration.plans()
    hashes = exchange.snapshot.plan_hashes
    return await document({**told, "hashes": hashes} if isinstance(told, dict) else told)


_PAGING: Final = tuple(Query(name, field.description or "") for name, field in control.AuditQuery.model_fields.items())

_RECONCILE: Final = (
    Query("tenant", "Try again what failed for this tenant, and tell of it alone."),
    Query("confirm", "The word for removals that wait for one.", "^[0-9a-f]{12}$"),
)

ROUTES: Final = (
    Route("GET", "/v1/status", show_status, "gateway:read", "What runs.", result=control.StatusReport,
          query=(Query("brief", "`true`: of tenants only id, state, reason and message.", "^(true|false)$"),)),
    Route("GET", "/v1/tenants/{id}/status", show_tenant_status, "tenants:read", "How a tenant stands.", own=True,
          result=control.TenantStatus),
    Route("GET", "/v1/plan", show_plan, "gateway:read", "What a reconcile would change.", result=control.Report),
    Route("GET", "/v1/observed", show_observed, "gateway:read", "What is in force.", result=control.Report),
    Route("POST", "/v1/reconcile", reconcile, "gateway:write", "Make it so now.", result=control.Reconciled,
          query=_RECONCILE),
    Route("GET", "/v1/audit", show_audit, "audit:read", "The audit log.", narrows=True,
          result=control.AuditPage, query=_PAGING),
    Route("GET", "/v1/audit/ends", show_audit_ends, "audit:read", "The audit log's signed ends.",
          result=control.AuditEnds, query=PAGING),
    Route("GET", "/v1/rate-card", show_rate_card, "billing:read", "Prices in force.", result=control.Report),
    Route("GET", "/v1/plans", show_plans, "tenants:read", "The operator's plans.", narrows=True,
          result=control.Report),
)  # fmt: skip
