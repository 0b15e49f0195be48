"""`connections.*`: accounts that a tenant's people connect. Their tokens are told to nobody."""

from datetime import datetime

from carrel.connections.record import Connection
from carrel.declare.outward import permitted_providers
from carrel.errors import NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.wire import rpc_connections as wire


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("connections.list")(list_)
    registry.method("connections.link", changes=True, secret=True, target="provider")(link)
    registry.method("connections.remove", changes=True, target="name")(remove)


async def list_(context: Context, params: wire.ConnectionsListParams) -> wire.ConnectionList:
    """The accounts that are connected, how each stands, and the providers that there are."""
    found = await engines(context).connections.list(context.tenant)
    page, following = paged(found, lambda one: (one.name, one.member or ""), params)
    gateway = context.snapshot.gateway
    names = permitted_providers(gateway, context.snapshot.allowlists, context.tenant.config)
    providers = tuple(
        wire.ConnectionProvider(
            name=name, display_name=gateway.oauth_providers[name].display_name or name,
            scopes=gateway.oauth_providers[name].scopes, more_scopes=gateway.oauth_providers[name].more_scopes,
        )
        for name in names
    )  # fmt: skip
    return wire.ConnectionList(connections=tuple(map(_view, page)), providers=providers, next=following)


async def link(context: Context, params: wire.ConnectionLinkParams) -> wire.ConnectionLink:
    """A link that a person opens in a browser, once and within ten minutes, to connect an account."""
    url, expires = await engines(context).connections.link(
        context.snapshot, context.tenant, provider=params.provider, name=params.name, scopes=params.scopes,
        by=context.actor,
    )  # fmt: skip
    return wire.ConnectionLink(url=url, expires_at_ms=_millis(expires))


async def remove(context: Context, params: wire.ConnectionParams) -> wire.ConnectionRemoved:
    """Forget a connection; its token is revoked with the vendor where that can be done."""
    try:
        _, revoked = await engines(context).connections.remove(
            context.snapshot, context.tenant, params.name, shared="admin" in context.scopes
        )
    except NotFound:
        if not context.again:
            raise
        revoked = False
    return wire.ConnectionRemoved(ok=True, name=params.name, revoked=revoked)


def _view(one: Connection) -> wire.ConnectionView:
    return wire.ConnectionView(
        name=one.name, provider=one.provider, account=one.account, scopes=one.scopes, state=one.state,
        reason=one.reason, member=one.member, renews=one.refresh is not None, linked_at=_millis(one.linked),
        expires_at=None if one.expires is None else _millis(one.expires),
    )  # fmt: skip


def _millis(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
