"""Liveness, readiness and metrics."""

from collections.abc import Callable

from aiohttp import web

from carrel.http.exchange import Exchange
from carrel.http.routes import Route


def routes(readiness: Callable[[], str | None]) -> tuple[Route, ...]:
    """The three paths that monitors ask."""

    async def ready(exchange: Exchange) -> web.StreamResponse:
        problem = readiness()
        if problem is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not ready", "reason": problem}, status=503)

    return (
        Route("GET", "/healthz", healthz, "public", "Whether the process lives."),
        Route("GET", "/readyz", ready, "public", "Whether it takes requests."),
        Route("GET", "/metrics", metrics, "scrape", "Prometheus metrics.", media="text/plain"),
    )


async def healthz(exchange: Exchange) -> web.StreamResponse:
    """Answers as long as the loop turns."""
    return web.json_response({"status": "ok", "version": exchange.services.version})


async def metrics(exchange: Exchange) -> web.StreamResponse:
    """The text exposition format, for loopback, the control socket, or an admin key with `read`."""
    return web.Response(
        body=exchange.services.metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )
