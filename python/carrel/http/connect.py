"""`/connect/{provider}` and `/oauth/callback`: a person's browser on its way to a vendor, and back.

A link is opened by whoever was given it, so the page says first for whom an account is connected, and only who goes on
from that page, in that browser, is sent to the vendor. What fetches a link to look at it uses nothing up. The browser
that comes back must be the one that was sent. Nothing here sends a browser anywhere but to the declared vendor.
"""

import hashlib
import hmac
import secrets
from typing import Final

from aiohttp import web

from carrel.connections.service import Connections, Consent
from carrel.errors import CarrelError, InvalidRequest, NotFound, RateLimited, Unavailable
from carrel.http.errors import STATUS
from carrel.http.exchange import Exchange
from carrel.http.plain_page import plain_page
from carrel.http.routes import Query, Route
from carrel.http.site import PAGE_HEADERS
from carrel.wire.oauth import returned, tidy

ASKED: Final = "__Host-carrel-connect"
"""The cookie of a browser that was shown for whom it is."""
_SENT: Final = "__Host-carrel-sent-"
"""What the cookie of a browser that was sent to a vendor begins with; then comes a part of its state's digest."""
SECONDS: Final = 600
_BYTES: Final = 32


async def open_link(exchange: Exchange) -> web.StreamResponse:
    """Say for whom an account is to be connected; with what that page holds, go on to the vendor."""
    try:
        return await _connect(exchange)
    except CarrelError as error:
        return _refused(exchange, error)


async def oauth_callback(exchange: Exchange) -> web.StreamResponse:
    """A browser that a vendor has sent back."""
    try:
        return await _callback(exchange)
    except CarrelError as error:
        return _refused(exchange, error)


async def _connect(exchange: Exchange) -> web.StreamResponse:
    connections, provider = _connections(exchange), exchange.request.match_info["provider"]
    query = exchange.request.query
    text, going = query.get("link", ""), query.get("go", "")
    if not going:
        return _asked(connections.consent(provider, text), text)
    held = exchange.request.cookies.get(ASKED, "")
    if not held or not hmac.compare_digest(_word(held, text), going.encode("utf-8", "surrogateescape")):
        # Another page has led here, or another browser: it is asked first.
        return _asked(connections.consent(provider, text), text)
    url, state, browser = await exchange.finish(
        connections.begin(provider, text, request_id=exchange.request_id), name="connect"
    )
    response = web.Response(status=302, headers={**PAGE_HEADERS, "Location": url, "Cache-Control": "no-store"})
    _set(response, _cookie_of(state), browser)
    _clear(response, ASKED)
    return response


def _asked(consent: Consent, text: str) -> web.Response:
    link, held = consent.link, secrets.token_urlsafe(_BYTES)
    config = link.tenant.config
    whose = f"{config.display_name} ({link.tenant.id})" if config.display_name else link.tenant.id
    if link.tenant.own is not None:
        whose = f"{link.tenant.own} at {whose}"
    response = plain_page(
        f"Connect {consent.shown}",
        f"If you go on and agree there, agents of {whose} can use your account at {consent.shown}"
        + (", as far as these scopes reach:" if link.scopes else "."),
        "Go on only if you asked for this link yourself, or know who did. It can be used once.",
        items=link.scopes,
        go_on=(f"/connect/{link.provider}?link={text}&go={_word(held, text).decode()}", f"Go on to {consent.shown}"),
    )
    _set(response, ASKED, held)
    return response


async def _callback(exchange: Exchange) -> web.StreamResponse:
    connections = _connections(exchange)
    came = returned(exchange.request.query.items())
    cookie = _cookie_of(came.state)
    try:
        work = connections.finish(came, exchange.request.cookies.get(cookie, ""), request_id=exchange.request_id)
        made = await exchange.finish(work, name="connected")
    except NotFound:
        raise
    except CarrelError as error:
        response = _refused(exchange, error)
        _clear(response, cookie)
        return response
    account = f" as {made.account}" if made.account else ""
    response = plain_page(
        f"{_shown(exchange, made.provider)} is connected{account}",
        f"The connection is called {made.name}. You can close this page.",
    )
    _clear(response, cookie)
    return response


def _refused(exchange: Exchange, error: CarrelError) -> web.Response:
    if isinstance(error, NotFound):
        wait = exchange.authenticator.failed(exchange.address)
        if wait is not None:
            error = RateLimited("Too many failed attempts from this address: wait a moment.", retry_after=wait)
    status = STATUS.get(error.code, 500)
    # Of what was used up already it is not known here how it ended.
    again = () if isinstance(error, InvalidRequest | NotFound | RateLimited) else ("Nothing was connected by this.",)
    response = plain_page("That did not work", tidy(error.message, 1000), *again, status=status)
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(int(error.retry_after) + 1)
    return response


def _shown(exchange: Exchange, name: str) -> str:
    provider = exchange.snapshot.gateway.oauth_providers.get(name)
    return provider.display_name or name if provider is not None else name


def _word(held: str, text: str) -> bytes:
    """What the page's link holds beside its own: only who has the page's cookie can know it."""
    return hashlib.sha256(f"{held}\0{text}".encode("utf-8", "surrogateescape")).hexdigest().encode()


def _cookie_of(state: str) -> str:
    return _SENT + hashlib.sha256(state.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _set(response: web.Response, name: str, value: str) -> None:
    # Lax: the vendor's page leads back here, and a browser keeps a strict cookie to itself then.
    response.set_cookie(name, value, max_age=SECONDS, path="/", secure=True, httponly=True, samesite="Lax")


def _clear(response: web.Response, name: str) -> None:
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")


def _connections(exchange: Exchange) -> Connections:
    if exchange.services.engines is None:
        raise Unavailable("No connections are kept here.")
    return exchange.services.engines.connections


ROUTES: Final = (
    Route("GET", "/connect/{provider}", open_link, "public", "Where a person opens a link of `connections.link`.",
          query=(Query("link", "The link's own text, good once."), Query("go", "What the page before holds.")),
          media="text/html"),
    Route("GET", "/oauth/callback", oauth_callback, "public", "Where a vendor sends a person's browser back to.",
          query=(Query("code", "The vendor's code."), Query("state", "The state, of this very browser, good once."),
                 Query("iss", "The vendor's issuer (RFC 9207)."), Query("error", "Why the vendor refused.")),
          media="text/html"),
)  # fmt: skip
