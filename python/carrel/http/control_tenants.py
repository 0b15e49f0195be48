"""The control plane of tenants: who asks is judged by the route's access, what happens is the administration's."""

from typing import Final

from aiohttp import web
from pydantic import BaseModel

from carrel.errors import Forbidden, InvalidRequest
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Query, Route
from carrel.http.rpc_endpoint import answer
from carrel.ids import parse_tenant_id
from carrel.wire import control


def reply(model: BaseModel, *, status: int = 200) -> web.Response:
    """``model`` as JSON."""
    response = web.Response(text=model.model_dump_json(), content_type="application/json", status=status)
    if isinstance(model, control.TenantView):
        response.headers["ETag"] = f'"{model.revision}"'
    return response


async def list_tenants(exchange: Exchange) -> web.StreamResponse:
    """All tenants."""
    found = await exchange.services.administration.list()
    seen = tuple(one for one in found.tenants if exchange.sees(parse_tenant_id(one.id)))
    return page(exchange, found.model_copy(update={"tenants": seen}), "tenants", lambda one: (one.id,))


async def show_tenant(exchange: Exchange) -> web.StreamResponse:
    """One tenant."""
    return reply(await exchange.services.administration.show(exchange.subject().id))


async def create_tenant(exchange: Exchange) -> web.StreamResponse:
    """Declare a tenant."""
    order = await exchange.model(control.TenantCreate)
    if not exchange.sees(parse_tenant_id(order.id)):
        raise Forbidden("This admin key is limited to some tenants, and the new one's id is none of them.")
    work = exchange.services.administration.create(order, by=exchange.actor)
    return reply(await exchange.finish(work, name="create tenant"), status=201)


async def remove_tenant(exchange: Exchange) -> web.StreamResponse:
    """Take a tenant's declaration away; its data stays unless `purge=true`."""
    purge = _flag(exchange, "purge")
    work = exchange.services.administration.remove(exchange.subject().id, purge=purge, by=exchange.actor)
    return reply(await exchange.finish(work, name="remove tenant"))


async def suspend_tenant(exchange: Exchange) -> web.StreamResponse:
    """Stop everything that runs for a tenant, and let nothing new begin."""
    work = exchange.services.administration.suspend(exchange.subject().id, by=exchange.actor)
    return reply(await exchange.finish(work, name="suspend tenant"))


async def resume_tenant(exchange: Exchange) -> web.StreamResponse:
    """Let a suspended tenant work again."""
    work = exchange.services.administration.resume(exchange.subject().id, by=exchange.actor)
    return reply(await exchange.finish(work, name="resume tenant"))


async def list_tokens(exchange: Exchange) -> web.StreamResponse:
    """A tenant's tokens, by prefix."""
    kept = await exchange.services.administration.tokens(exchange.subject().id)
    return page(exchange, kept, "tokens", lambda one: (one.name, one.source))


async def issue_token(exchange: Exchange) -> web.StreamResponse:
    """A new token, shown once."""
    tenant = exchange.subject()
    order = await exchange.model(control.TokenIssue)
    work = exchange.services.administration.token_issue(tenant.id, order, by=exchange.actor)
    return reply(await exchange.finish(work, name="issue token"), status=201)


async def rotate_token(exchange: Exchange) -> web.StreamResponse:
    """Replace a token; the old one ends with its streams."""
    tenant = exchange.subject()
    order = await exchange.model(control.TokenRotate)
    work = exchange.services.administration.token_rotate(tenant.id, order, by=exchange.actor)
    return reply(await exchange.finish(work, name="rotate token"))


async def _token(exchange: Exchange) -> str | None:
    """The ETag of the token that the path or the order names."""
    name = exchange.request.match_info.get("name")
    if name is None:
        name = (await exchange.model(control.TokenRotate)).name or "default"
    kept = await exchange.services.administration.tokens(exchange.subject().id)
    return next((one.etag for one in kept.tokens if one.name == name), None)


async def revoke_token(exchange: Exchange) -> web.StreamResponse:
    """End a token with its streams."""
    name = exchange.request.match_info["name"]
    work = exchange.services.administration.token_revoke(exchange.subject().id, name, by=exchange.actor)
    await exchange.finish(work, name="revoke token")
    return web.Response(status=204)


async def resize_tenant(exchange: Exchange) -> web.StreamResponse:
    """Put a tenant on another plan, or change what its sandbox has."""
    tenant = exchange.subject()
    order = await exchange.model(control.TenantResize)
    work = exchange.services.administration.resize(tenant.id, order, by=exchange.actor)
    return reply(await exchange.finish(work, name="resize tenant"))


async def tenant_rpc(exchange: Exchange) -> web.StreamResponse:
    """JSON-RPC as the tenant in the path, or as the member of it that is named."""
    tenant = exchange.active_subject().as_member(exchange.request.query.get("member"))
    return await answer(exchange, tenant, exchange.operator("act"))


def _flag(exchange: Exchange, name: str) -> bool:
    text = exchange.request.query.get(name, "false")
    if text not in ("true", "false"):
        raise InvalidRequest(f"`{name}` is `true` or `false`.", param=name)
    return text == "true"


_PURGE: Final = Query("purge", "`true` deletes the data now, after a final backup.", "^(true|false)$")
_MEMBER: Final = Query("member", "The person of the tenant's `members` to act as.")

ROUTES: Final = (
    Route("GET", "/v1/tenants", list_tenants, "tenants:read", "All tenants.", narrows=True, result=control.TenantList,
          query=PAGING),
    Route("POST", "/v1/tenants", create_tenant, "tenants:write", "Declare a tenant.", narrows=True,
          body=control.TenantCreate, result=control.TenantCreated, status=201, secret=True),
    Route("GET", "/v1/tenants/{id}", show_tenant, "tenants:read", "One tenant.", result=control.TenantView),
    Route("DELETE", "/v1/tenants/{id}", remove_tenant, "tenants:write", "Take a tenant's declaration away.",
          result=control.TenantRemoved, query=(_PURGE,), declares=True),
    Route("POST", "/v1/tenants/{id}/suspend", suspend_tenant, "tenants:write", "Suspend a tenant.",
          result=control.TenantView, declares=True),
    Route("POST", "/v1/tenants/{id}/resume", resume_tenant, "tenants:write", "Resume a tenant.",
          result=control.TenantView, declares=True),
    Route("POST", "/v1/tenants/{id}/resize", resize_tenant, "tenants:write", "Another plan, or another size.",
          body=control.TenantResize, result=control.TenantView, declares=True),
    Route("GET", "/v1/tenants/{id}/tokens", list_tokens, "tokens:read", "A tenant's tokens, by prefix.",
          result=control.TokenList, query=PAGING),
    Route("POST", "/v1/tenants/{id}/tokens", issue_token, "tokens:write", "Issue a token, shown once.",
          body=control.TokenIssue, result=control.TokenIssued, status=201, secret=True),
    Route("POST", "/v1/tenants/{id}/tokens/rotate", rotate_token, "tokens:write", "Replace a token.",
          body=control.TokenRotate, result=control.TokenIssued, secret=True, matched=_token),
    Route("DELETE", "/v1/tenants/{id}/tokens/{name}", revoke_token, "tokens:write", "Revoke a token.", status=204,
          matched=_token),
    Route("POST", "/v1/tenants/{id}/rpc", tenant_rpc, "act", "JSON-RPC as that tenant.",
          dialect="jsonrpc", query=(_MEMBER,)),
)  # fmt: skip
