"""The control plane of quotas: what is used, what is set, and what tenants ask for."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Route
from carrel.http.rpc.tenants import disk_states, quota_line
from carrel.http.services import QuotaRequests
from carrel.wire import control, quotas


async def show_quota(exchange: Exchange) -> web.StreamResponse:
    """A tenant's quotas in use."""
    tenant = exchange.subject_or_self()
    calls = await exchange.services.meter.quota_status(tenant)
    states = (*calls, *await disk_states(exchange.services, tenant))
    lines = tuple(control.QuotaLine.model_validate(quota_line(s).model_dump()) for s in states)
    return reply(control.QuotaView(tenant=tenant.id, quotas=lines))


async def update_quota(exchange: Exchange) -> web.StreamResponse:
    """Set hard limits; what is left out stays, null takes a limit away."""
    tenant = exchange.subject()
    order = await exchange.model(control.QuotaUpdate)
    work = exchange.services.administration.quota_update(tenant.id, order, by=exchange.actor)
    return reply(await exchange.finish(work, name="update quota"))


async def list_requests(exchange: Exchange) -> web.StreamResponse:
    """What all tenants ask for, the newest first."""
    seen = [tenant for tenant in exchange.snapshot.tenants.values() if exchange.sees(tenant.id)]
    found = await _kept(exchange).all(seen)
    return _page(exchange, found)


async def list_requests_of(exchange: Exchange) -> web.StreamResponse:
    """What one tenant asks for, the newest first."""
    return _page(exchange, await _kept(exchange).list(exchange.subject_or_self()))


async def decide_request(exchange: Exchange) -> web.StreamResponse:
    """Approve or reject; what is approved is declared, and in force when this answers."""
    tenant, request = exchange.subject(), exchange.request.match_info["request"]
    order = await exchange.model(quotas.QuotaDecision)
    work = _kept(exchange).decide(tenant, request, order, by=exchange.actor)
    return reply(await exchange.finish(work, name="decide quota"))


def _page(exchange: Exchange, found: Sequence[quotas.QuotaRequestView]) -> web.Response:
    whole = quotas.QuotaRequestList(requests=tuple(found))
    return page(exchange, whole, "requests", lambda one: (one.asked.isoformat(), one.id), newest_first=True)


def _kept(exchange: Exchange) -> QuotaRequests:
    if exchange.services.quota_requests is None:
        raise NotFound("No quotas are asked for here.")
    return exchange.services.quota_requests


ROUTES: Final = (
    Route("GET", "/v1/tenants/{id}/quota", show_quota, "quotas:read", "Quotas in use.", own=True,
          result=control.QuotaView),
    Route("PATCH", "/v1/tenants/{id}/quota", update_quota, "quotas:write", "Set hard limits.",
          body=control.QuotaUpdate, result=control.TenantView, declares=True),
    Route("GET", "/v1/quota-requests", list_requests, "quotas:read", "What tenants ask for.", narrows=True,
          result=quotas.QuotaRequestList, query=PAGING),
    Route("GET", "/v1/tenants/{id}/quota/requests", list_requests_of, "quotas:read", "What a tenant asks for.",
          result=quotas.QuotaRequestList, query=PAGING, own=True),
    Route("POST", "/v1/tenants/{id}/quota/requests/{request}/decision", decide_request, "quotas:write",
          "Approve or reject.", body=quotas.QuotaDecision, result=quotas.QuotaRequestView, declares=True),
)  # fmt: skip
