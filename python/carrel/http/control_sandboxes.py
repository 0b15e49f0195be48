"""The control plane of kept sandboxes: which run, what they wrote, a command in one, and its end."""

from typing import Final

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Query, Route
from carrel.http.services import Sandboxes
from carrel.ids import parse_tenant_id
from carrel.wire import control


async def list_sandboxes(exchange: Exchange) -> web.StreamResponse:
    """Those that run, of one tenant or of all."""
    tenant = exchange.request.query.get("tenant")
    found = _rooms(exchange).list(None if tenant is None else exchange.named(tenant).id)
    found = found.model_copy(
        update={"sandboxes": tuple(one for one in found.sandboxes if exchange.sees(parse_tenant_id(one.tenant)))}
    )
    return page(exchange, found, "sandboxes", lambda one: (one.started.isoformat(), one.id))


async def show_log(exchange: Exchange) -> web.StreamResponse:
    """What background processes in one wrote."""
    return reply(_rooms(exchange).log(exchange.subject().id, _named(exchange)))


async def stop_sandbox(exchange: Exchange) -> web.StreamResponse:
    """End one with all that runs in it."""
    work = _rooms(exchange).stop(exchange.subject().id, _named(exchange), by=exchange.actor)
    await exchange.finish(work, name="stop sandbox")
    return web.Response(status=204)


async def execute(exchange: Exchange) -> web.StreamResponse:
    """Run a command in one; who goes away kills it."""
    tenant = exchange.active_subject()
    order = await exchange.model(control.SandboxExec, limit=4 << 20)
    return reply(await _rooms(exchange).execute(tenant, _named(exchange), order, by=exchange.actor))


def _named(exchange: Exchange) -> str:
    return exchange.request.match_info["sandbox"]


def _rooms(exchange: Exchange) -> Sandboxes:
    if exchange.services.sandboxes is None:
        raise NotFound("No sandbox is kept here.")
    return exchange.services.sandboxes


_OF_ONE: Final = (Query("tenant", "Those of this tenant alone."), *PAGING)

ROUTES: Final = (
    Route("GET", "/v1/sandboxes", list_sandboxes, "sandboxes:read", "Kept sandboxes.", narrows=True,
          result=control.SandboxList, query=_OF_ONE),
    Route("GET", "/v1/tenants/{id}/sandboxes/{sandbox}/log", show_log, "sandboxes:read",
          "What runs in the background there wrote.", result=control.SandboxLog),
    Route("POST", "/v1/tenants/{id}/sandboxes/{sandbox}/exec", execute, "act", "A command in a sandbox.",
          body=control.SandboxExec, result=control.SandboxExecuted),
    Route("DELETE", "/v1/tenants/{id}/sandboxes/{sandbox}", stop_sandbox, "sandboxes:write", "End a sandbox.",
          status=204),
)  # fmt: skip
