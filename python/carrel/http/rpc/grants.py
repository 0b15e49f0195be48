"""`grants.*`: what agents ask for, and who decides."""

from carrel.errors import NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import Access
from carrel.wire import rpc
from carrel.wire.control import Actor


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("grants.list")(list_)
    registry.method("grants.decide", scope="admin", changes=True)(decide)


async def list_(context: Context, params: rpc.Page) -> rpc.GrantList:
    """The tenant's requests for access, oldest first, and how each stands."""
    whole = await _access(context).list(context.tenant)
    page, following = paged(whole.grants, lambda one: (one.asked, one.id), params)
    return rpc.GrantList(grants=tuple(page), next=following)


async def decide(context: Context, params: rpc.GrantDecision) -> rpc.GrantView:
    """Decide a request for access, or decide it anew; what the allowlists do not offer is the operator's."""
    return await _access(context).decide(
        context.snapshot, context.tenant, params.grant, params.decision,
        by=Actor(context.actor, context.request_id), operator=context.token_name is None,
    )  # fmt: skip


def _access(context: Context) -> Access:
    if context.services.access is None:
        raise NotFound("No access is asked for here.")
    return context.services.access
