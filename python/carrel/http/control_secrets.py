"""The control plane of tenants' vaults: values go in, and only names come out."""

from typing import Final

from aiohttp import web

from carrel.errors import NotFound
from carrel.http.control_tenants import reply
from carrel.http.exchange import Exchange
from carrel.http.pages import PAGING, page
from carrel.http.routes import Route
from carrel.http.services import SecretKeeping
from carrel.wire import control


async def list_secrets(exchange: Exchange) -> web.StreamResponse:
    """A tenant's secrets, by name."""
    return page(exchange, await _keeping(exchange).list(exchange.subject()), "secrets", lambda one: (one.name,))


async def _secret(exchange: Exchange) -> str | None:
    """The ETag of the secret that the path names."""
    kept = await _keeping(exchange).list(exchange.subject())
    return next((one.etag for one in kept.secrets if one.name == _name(exchange)), None)


async def put_secret(exchange: Exchange) -> web.StreamResponse:
    """Keep a value."""
    order = await exchange.model(control.SecretPut)
    work = _keeping(exchange).put(exchange.subject(), _name(exchange), order, by=exchange.actor)
    return reply(await exchange.finish(work, name="set secret"))


async def remove_secret(exchange: Exchange) -> web.StreamResponse:
    """Forget one."""
    work = _keeping(exchange).remove(exchange.subject(), _name(exchange), by=exchange.actor)
    await exchange.finish(work, name="remove secret")
    return web.Response(status=204)


async def reseal_secrets(exchange: Exchange) -> web.StreamResponse:
    """Seal with the newest master key what is sealed with an older one."""
    work = _keeping(exchange).reseal(exchange.subject(), by=exchange.actor)
    return reply(await exchange.finish(work, name="reseal secrets"))


def _name(exchange: Exchange) -> str:
    return exchange.request.match_info["secret"]


def _keeping(exchange: Exchange) -> SecretKeeping:
    if exchange.services.secrets is None:
        raise NotFound("No vault is kept here.")
    return exchange.services.secrets


ROUTES: Final = (
    Route("GET", "/v1/tenants/{id}/secrets", list_secrets, "secrets:read", "A tenant's secrets, by name.",
          result=control.SecretList, query=PAGING),
    Route("PUT", "/v1/tenants/{id}/secrets/{secret}", put_secret, "secrets:write", "Keep a secret's value.",
          body=control.SecretPut, result=control.SecretView, matched=_secret),
    Route("DELETE", "/v1/tenants/{id}/secrets/{secret}", remove_secret, "secrets:write", "Forget a secret.",
          status=204, matched=_secret),
    Route("POST", "/v1/tenants/{id}/secrets", reseal_secrets, "secrets:write",
          "Seal all with the newest master key.", result=control.SecretsResealed),
)  # fmt: skip
