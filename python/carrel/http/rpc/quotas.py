"""`tenants.quota.request` and `tenants.quota.requests`: what a tenant asks for, and what was decided."""

from carrel.errors import NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import QuotaRequests
from carrel.wire.control import Actor
from carrel.wire.quotas import QuotaAsk, QuotaAsked, QuotaAskedList, QuotaAskedPage, QuotaRequestView


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("tenants.quota.request", changes=True)(request)
    registry.method("tenants.quota.requests")(requests)


async def request(context: Context, params: QuotaAsk) -> QuotaAsked:
    """Ask the operator for another hard limit of a quota; one request for each quota waits at a time."""
    asked = await _kept(context).ask(
        context.tenant, quota=params.quota, limit=params.limit, reason=params.reason,
        by=Actor(context.actor, context.request_id), request=context.new_id("qr"),
    )  # fmt: skip
    return _told(asked)


async def requests(context: Context, params: QuotaAskedPage) -> QuotaAskedList:
    """The tenant's requests for higher quotas, the newest first, and how each stands."""
    found, cursor = paged(
        await _kept(context).list(context.tenant),
        lambda one: (one.asked.isoformat(), one.id),
        params,
        newest_first=True,
    )
    return QuotaAskedList(requests=tuple(map(_told, found)), next=cursor)


def _told(asked: QuotaRequestView) -> QuotaAsked:
    return QuotaAsked.model_validate(asked.model_dump(exclude={"tenant", "decided_by"}))


def _kept(context: Context) -> QuotaRequests:
    if context.services.quota_requests is None:
        raise NotFound("No quotas are asked for here.")
    return context.services.quota_requests
