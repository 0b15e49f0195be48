"""Browsers: logging in with a token, out again, and tickets for a WebSocket.

The token comes in a header that a page of another origin cannot send, and only once. From then on the browser has a
cookie that no script reads and no other site's request carries; a change needs, besides, the session's own word in a
header. Each of them is asked only of a page of the gateway's own.
"""

from typing import Final

from aiohttp import web

from carrel.errors import Forbidden, Unauthorized
from carrel.http.auth import TenantCaller, require_tenant
from carrel.http.browser_sessions import TICKET_SECONDS, BrowserSession
from carrel.http.exchange import COOKIE, Exchange
from carrel.http.routes import Route
from carrel.wire import browser as wire

CSRF_HEADER: Final = "X-Carrel-CSRF"


async def log_in(exchange: Exchange) -> web.StreamResponse:
    """Log a browser in with the token in the header, which it need not keep."""
    exchange.require_own_page(needed=True)
    caller = exchange.tenant("rpc")
    seconds = exchange.snapshot.gateway.browser.session_seconds
    cookie, session = exchange.browsers.begin(caller.tenant.id, caller.credential, seconds=seconds)
    response = web.Response(
        text=_view(caller, session).model_dump_json(), content_type="application/json", status=201
    )  # fmt: skip
    response.set_cookie(COOKIE, cookie, max_age=int(seconds), path="/", secure=True, httponly=True, samesite="Strict")
    return response


async def look(exchange: Exchange) -> web.StreamResponse:
    """Who is logged in."""
    session, caller = _session(exchange, changes=False)
    return web.Response(text=_view(caller, session).model_dump_json(), content_type="application/json")


async def log_out(exchange: Exchange) -> web.StreamResponse:
    """Log out; what the page had open ends. Terminals go on."""
    session, _ = _session(exchange, changes=True)
    exchange.browsers.end(session)
    response = web.Response(status=204)
    response.del_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="Strict")
    return response


async def ticket(exchange: Exchange) -> web.StreamResponse:
    """A ticket that opens one WebSocket, within half a minute, together with the browser's cookie."""
    session, _ = _session(exchange, changes=True)
    made = wire.Ticket(ticket=exchange.browsers.ticket(session), expires_in=int(TICKET_SECONDS))
    return web.Response(text=made.model_dump_json(), content_type="application/json", status=201)


def _session(exchange: Exchange, *, changes: bool) -> tuple[BrowserSession, TenantCaller]:
    """The browser's session and whose it is; raises Forbidden, Unauthorized."""
    exchange.require_own_page(needed=changes)
    session = exchange.browsers.of(exchange.request.cookies.get(COOKIE, ""))
    known = exchange.authenticator.known(session.credential, exchange.snapshot) if session is not None else None
    if session is None or known is None:
        raise Unauthorized("Nobody is logged in with this browser, or not any more.")
    if changes and not session.knows(exchange.request.headers.get(CSRF_HEADER, "")):
        raise Forbidden(f"A change needs the header {CSRF_HEADER} with what logging in answered.")
    caller = require_tenant(known, "rpc")
    exchange.caller = exchange.live.caller = caller
    exchange.tenant_id = caller.tenant.id
    return session, caller


def _view(caller: TenantCaller, session: BrowserSession) -> wire.BrowserView:
    return wire.BrowserView(
        tenant=caller.tenant.id, display_name=caller.tenant.config.display_name, member=caller.tenant.member,
        csrf=session.csrf,
    )  # fmt: skip


ROUTES: Final = (
    Route("POST", "/v1/browser/session", log_in, "tenant-rpc", "Log a browser in with a token.",
          result=wire.BrowserView, status=201),
    Route("GET", "/v1/browser/session", look, "browser", "Who is logged in with this browser.",
          result=wire.BrowserView),
    Route("DELETE", "/v1/browser/session", log_out, "browser", "Log out.", status=204),
    Route("POST", "/v1/browser/tickets", ticket, "browser", "A ticket that opens one WebSocket.",
          result=wire.Ticket, status=201),
)  # fmt: skip
