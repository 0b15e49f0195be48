"""What a route is: one row that the router, the OpenAPI document and the boundary tests are all made from."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from aiohttp import web
from pydantic import BaseModel

from carrel.declare.admin_keys import AdminScope
from carrel.errors import Forbidden
from carrel.http.auth import TenantCaller
from carrel.http.changes import Kind, Matched, with_etag
from carrel.http.errors import Dialect
from carrel.http.exchange import Exchange

EXCHANGE: Final = web.RequestKey("exchange", Exchange)

Other = Literal["public", "scrape", "tenant-chat", "tenant-rpc", "tenant-ws", "operator-ws", "browser"]
"""Who may enter where it is not an operator by a scope alone.

``scrape``: loopback, the control socket, or an operator with `metrics:read`. ``operator-ws``: one with `act`, of no
other's page. ``browser``: a cookie, which the route itself asks about.
"""
Access = Literal[Other, AdminScope]
"""Who may enter by a route: an operator with a scope, or others."""
SCOPES: Final[Mapping[str, AdminScope]] = {
    "scrape": "metrics:read", "operator-ws": "act", **{scope: scope for scope in get_args(AdminScope)}
}  # fmt: skip
"""The scope that an operator needs, by access."""
_UNCOUNTED: Final = frozenset({"tenant-ws", "browser"})
"""Ways in whose connections and sessions have limits of their own: what is asked on them is counted."""


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
    matched: Matched | None = None
    """What `If-Match` is held against beside the tenant's revision, where it changes one thing of many."""
    own: bool = False
    """The tenant in its path may enter too, with `rpc`."""
    counts: bool = False
    """Its handler counts a tenant's request against the quotas itself; for all others that is done here."""
    narrows: bool = False
    """It is about no one tenant, and its handler gives a key that is limited to some only what is theirs."""

    @property
    def scope(self) -> AdminScope | None:
        """The scope that it asks of an operator; None where it is not for operators."""
        return SCOPES.get(self.access)

    @property
    def is_control(self) -> bool:
        """Whether it is one of the control plane, with ETags and idempotency keys."""
        plain = self.dialect == "problem" and self.media == "application/json"
        return plain and self.access in get_args(AdminScope)

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
        admit(exchange, route)
        if isinstance(exchange.caller, TenantCaller) and not route.counts and route.access not in _UNCOUNTED:
            await exchange.services.meter.admit_request(exchange.caller.tenant)
        if not route.is_control:
            return await route.handler(exchange)
        if route.method == "GET":
            return with_etag(exchange, await route.handler(exchange))
        changes = exchange.services.changes
        if changes is None:
            return await route.handler(exchange)
        return await changes.make(exchange, route.handler, Kind(route.secret, route.declares, route.matched))


def admit(exchange: Exchange, route: Route) -> None:
    """Raise unless the caller may enter by ``route``: the one place where that is judged, for all routes."""
    match route.access:
        case "public" | "browser":
            return
        case "scrape":
            if not (exchange.control or _is_loopback(exchange.address)):
                _operator(exchange, route, "metrics:read")
        case "tenant-chat":
            exchange.tenant("chat")
        case "tenant-rpc":
            exchange.tenant("rpc")
        case "tenant-ws":
            # A page is told so before anything else is looked at, and cannot use up a ticket.
            exchange.require_own_page(needed=exchange.ticket is not None)
            exchange.tenant_with("rpc", "node")
        case "operator-ws":
            exchange.require_own_page(needed=False)
            _operator(exchange, route, "act")
        case scope:
            if route.own and isinstance(exchange.authenticate(), TenantCaller):
                exchange.own_subject()
            else:
                _operator(exchange, route, scope)


def _operator(exchange: Exchange, route: Route, scope: AdminScope) -> None:
    """Raise unless an operator calls who may do ``scope``, and of whose tenants ``route`` is about."""
    caller = exchange.operator(scope)
    if caller.tenants is None or route.narrows:
        return
    if "{id}" in route.path:
        exchange.subject()
    else:
        raise Forbidden(
            f"The admin key {caller.name!r} is limited to some tenants, and this is about the whole gateway: the "
            "operator can declare another key without `tenants`."
        )


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith(("127.", "::ffff:127."))


async def _take_no_interim_answer(request: web.Request) -> None:
    """A caller that waits for 100 Continue gets it when its body is read, after it was let in."""


def add_routes(app: web.Application, routes: tuple[Route, ...]) -> None:
    """Register ``routes``."""
    for route in routes:
        app.router.add_route(route.method, route.path, Endpoint(route).__call__, expect_handler=_take_no_interim_answer)
