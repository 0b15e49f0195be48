"""`GET /ws`: the methods of `/rpc` over a WebSocket, and the tenant's events as notifications.

Who may come in is judged before the upgrade, and again on every frame and every fraction of a second: a token that is
rotated or revoked ends the connection. How many there are of a tenant is bounded.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from carrel.errors import InvalidRequest, RateLimited
from carrel.events.hub import Subscription
from carrel.http.errors import UpgradeRequired
from carrel.http.exchange import Exchange
from carrel.http.routes import Query, Route
from carrel.http.rpc.registry import ALL_SCOPES
from carrel.http.ws_connection import Connection, Speaker
from carrel.ids import TenantId
from carrel.telemetry import Metrics

SUBPROTOCOL: Final = "carrel.v1"
MOST_KINDS: Final = 32
_RETRY_SECONDS: Final = 5.0


class Sockets:
    """How many connections each tenant has."""

    def __init__(self) -> None:
        self._open: Counter[TenantId] = Counter()

    @contextmanager
    def one_more(self, tenant: TenantId, most: int, metrics: Metrics) -> Iterator[None]:
        """Count one for as long as the block lasts; raises RateLimited where there are ``most`` already."""
        if self._open[tenant] >= most:
            raise RateLimited(
                f"{most} WebSockets of this tenant are open: close one first.", retry_after=_RETRY_SECONDS
            )
        self._open[tenant] += 1
        metrics.websockets(tenant, 1)
        try:
            yield
        finally:
            self._open[tenant] -= 1
            metrics.websockets(tenant, -1)
            if not self._open[tenant]:
                del self._open[tenant]


def routes(sockets: Sockets) -> tuple[Route, ...]:
    """The route, which counts its connections in ``sockets``."""

    async def open_socket(exchange: Exchange) -> web.StreamResponse:
        """A WebSocket of the calling tenant's."""
        return await connected(exchange, Speaker.of(exchange.tenant_with("rpc", "node")))

    async def tenant_connect(exchange: Exchange) -> web.StreamResponse:
        """A WebSocket as the tenant in the path, or as the member of it that is named."""
        tenant = exchange.active_subject().as_member(exchange.request.query.get("member"))
        return await connected(exchange, Speaker(exchange.operator("act"), tenant, ALL_SCOPES, None))

    async def connected(exchange: Exchange, speaker: Speaker) -> web.StreamResponse:
        if exchange.request.headers.get("Upgrade", "").lower() != "websocket":
            raise UpgradeRequired("This path is a WebSocket: send `Upgrade: websocket`.")
        after = _after(exchange)
        kinds = tuple(kind for kind in exchange.request.query.get("events", "").split(",") if kind)
        if len(kinds) > MOST_KINDS:
            raise InvalidRequest(f"At most {MOST_KINDS} kinds of events can be named.", param="events")
        most, metrics = exchange.limits.sockets_per_tenant, exchange.services.metrics
        with sockets.one_more(speaker.tenant.id, most, metrics):
            return await _served(exchange, speaker, kinds, after)

    return (
        Route("GET", "/ws", open_socket, "tenant-ws", "JSON-RPC 2.0 over a WebSocket, with events.", query=QUERIES,
              status=101),
        Route("GET", "/v1/tenants/{id}/ws", tenant_connect, "operator-ws", "The same as that tenant.",
              query=(*QUERIES, MEMBER), status=101),
    )  # fmt: skip


async def _served(
    exchange: Exchange, speaker: Speaker, kinds: tuple[str, ...], after: int | None
) -> web.StreamResponse:
    limits = exchange.limits
    socket = web.WebSocketResponse(
        heartbeat=limits.ping_seconds, max_msg_size=limits.frame_bytes, timeout=limits.close_seconds, compress=False,
        protocols=(SUBPROTOCOL,),
    )  # fmt: skip
    await socket.prepare(exchange.request)
    exchange.live.endless = True
    connection = Connection(exchange, speaker, socket)
    # A node's token is for what it is asked, not for what its tenant does.
    listens = "rpc" in speaker.scopes and kinds != ("none",)
    subscription = Subscription(speaker.tenant.own, kinds, connection.deliver)
    hub = exchange.services.hub
    connection.on_close(lambda: hub.leave(speaker.tenant, subscription))
    try:
        if listens:
            connection.welcome(hub, subscription, epoch=exchange.request.query.get("epoch"), after=after)
        else:
            connection.welcome(hub, None)
        await connection.serve()
    finally:
        hub.leave(speaker.tenant, subscription)
    return socket


def _after(exchange: Exchange) -> int | None:
    text = exchange.request.query.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest("`after` is the number of the last event that you have.", param="after")
    return int(text)


MEMBER: Final = Query("member", "The person of the tenant's `members` to act as.")
QUERIES: Final = (
    Query("events", "Kinds of events to have, as `session,cron`; `none` for none. Default: all.", "^[a-z.,]{0,500}$"),
    Query("epoch", "The `epoch` of the connection before, to go on where it ended.", "^[0-9a-f]{1,32}$"),
    Query("after", "The number of the last event that you have.", "^[0-9]{1,18}$"),
)
