"""What a route is: one row that the router, the OpenAPI document and the boundary tests are all made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web
from pydantic import BaseModel

from carrel.http.changes import with_etag
from carrel.http.errors import Dialect
from carrel.http.exchange import Exchange

EXCHANGE: Final = web.RequestKey("exchange", Exchange)

Access = Literal[
    "public",
    "scrape",
    "tenant-chat",
    "tenant-rpc",
    "tenant-ws",
    "operator-read",
    "operator-write",
    "operator-ws",
    "reader",
    "browser",
]
"""``scrape``: loopback, the control socket or any admin key. ``reader``: an operator, or the tenant in the path.

``browser``: a cookie, which the route itself asks about.
"""


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter."""

    name: str
    description: str
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. ``body`` and ``result`` are the models of JSON that goes in and comes out.

    ``by_version``: a caller that names a version of Anthropic's API is answered in that dialect.
    """

    method: str
    path: str
    handler: Callable[[Exchange], Awaitable[web.StreamResponse]]
    access: Access
    summary: str
    dialect: Dialect = "problem"
    body: type[BaseModel] | None = None
    result: type[BaseModel] | None = None
    query: tuple[Query, ...] = ()
    status: int = 200
    media: str = "application/json"
    by_version: bool = False
    secret: bool = False
    """Its answer holds what is shown once: it is kept under no idempotency key."""
    declares: bool = False
    """It changes what is declared of the tenant in its path: one such change at a time."""

    @property
    def is_control(self) -> bool:
        """Whether it is one of the control plane, with ETags and idempotency keys."""
        plain = self.dialect == "problem" and self.media == "application/json"
        return plain and self.access in ("operator-read", "operator-write", "reader")

    def dialect_for(self, headers: Mapping[str, str]) -> Dialect:
        """The dialect of an answer to a request with ``headers``."""
        return "anthropic" if self.by_version and "anthropic-version" in headers else self.dialect


class Endpoint:
    """A route as aiohttp calls it: who may is judged before its handler sees the request."""

    def __init__(self, route: Route) -> None:
        self.route = route

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        exchange.route = self.route.path
        exchange.dialect = self.route.dialect_for(request.headers)
        route = self.route
        admit(exchange, route.access)
        if not route.is_control:
            return await route.handler(exchange)
        if route.method == "GET":
            return with_etag(exchange, await route.handler(exchange))
        changes = exchange.services.changes
        if changes is None:
            return await route.handler(exchange)
        return await changes.make(exchange, route.handler, secret=route.secret, declares=route.declares)


def admit(exchange: Exchange, access: Access) -> None:
    """Raise unless the caller may enter by ``access``."""
    match access:
        case "public" | "browser":
            return
        case "scrape":
            if not (exchange.control or _is_loopback(exchange.address)):
                exchange.operator("read")
        case "tenant-chat":
            exchange.tenant("chat")
        case "tenant-rpc":
            exchange.tenant("rpc")
        case "tenant-ws":
            # A page is told so before anything else is looked at, and cannot use up a ticket.
            exchange.require_own_page(needed=exchange.ticket is not None)
            exchange.tenant_with("rpc", "node")
        case "operator-read":
            exchange.operator("read")
        case "operator-ws":
            exchange.require_own_page(needed=False)
            exchange.operator("write")
        case "operator-write":
            exchange.operator("write")
        case "reader":
            exchange.reader_of_subject()


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith(("127.", "::ffff:127."))


async def _take_no_interim_answer(request: web.Request) -> None:
    """A caller that waits for 100 Continue gets it when its body is read, after it was let in."""


def add_routes(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Register ``routes``."""
    for route in routes:
        app.router.add_route(route.method, route.path, Endpoint(route).__call__, expect_handler=_take_no_interim_answer)
