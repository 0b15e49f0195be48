"""`/hooks/{tenant}/{channel}`: where messaging platforms call. Who calls is proved by what the platform signs with."""

from typing import Final

from aiohttp import web

from carrel.errors import CarrelError, RateLimited, Unauthorized
from carrel.http.exchange import Exchange
from carrel.http.routes import Route

MAX_BODY: Final = 1 << 20
REFUSED: Final = "This is no call of a platform's that is expected here."


async def hook(exchange: Exchange) -> web.StreamResponse:
    """Take what a platform calls with; when it is answered, that is on the disk."""
    body = await exchange.body(limit=MAX_BODY)
    match, headers = exchange.request.match_info, exchange.request.headers
    given = {name.lower(): headers.getall(name) for name in headers}
    engines = exchange.services.engines
    account = engines.channels.called(match["tenant"], match["channel"], given, body) if engines is not None else None
    if account is None:
        # The same for a tenant, a channel and a secret that is not the right one.
        wait = exchange.authenticator.failed(exchange.address)
        if wait is not None:
            raise RateLimited("Too many failed attempts from this address.", retry_after=wait)
        raise Unauthorized(REFUSED)
    exchange.tenant_id = account.spec.tenant.id
    try:
        await account.called(body)
    except CarrelError as error:
        if error.code == "unavailable":
            raise RateLimited("Too many messages wait; call again later.", retry_after=5.0) from error
        raise
    return web.json_response({"ok": True})


ROUTES: Final = (
    Route("POST", "/hooks/{tenant}/{channel}", hook, "public", "A messaging platform calls with a message."),
)  # fmt: skip
