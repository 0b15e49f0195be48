"""A proxy for tests, and a server on loopback that does what it is told to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from carrel.declare.mcp import McpServer
from carrel.egress.outbound import Outbound
from carrel.mcp.proxy import McpProxy
from carrel.secrets import Secret, SecretMissing
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Tenant
from tests.fakes.administration import FakeAudit
from tests.fakes.connections import PlainClients

KEY = "secret-key-of-the-server-4711"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Known:
    """Secrets and connections of every tenant."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}

    async def get(self, tenant: Tenant, name: str) -> Secret:
        if name != "KEY":
            raise SecretMissing(f"secret {name!r} is not set")
        return Secret(KEY)

    async def token(self, tenant: Tenant, name: str, *, provider: str) -> Secret:
        return Secret(self.tokens[f"{provider}/{name}"])


@dataclass
class McpHouse:
    """All of it. ``answer`` is what the server does."""

    proxy: McpProxy
    known: Known
    audit: FakeAudit
    metrics: Metrics
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    answer: Handler | None = None
    admitted: int = 0

    def server(self, **more: Any) -> McpServer:
        """The server as a tenant's file declares it."""
        return McpServer.model_validate({"url": self.url, "addresses": ("127.0.0.0/8",), **more})


@asynccontextmanager
async def mcp_house() -> AsyncIterator[McpHouse]:
    """A house with its server."""
    clients, known, audit, metrics = PlainClients(), Known(), FakeAudit(), Metrics()

    async def admits(tenant: Tenant) -> None:
        house.admitted += 1

    house = McpHouse(
        McpProxy(
            outside=Outbound(clients), secrets=known, connections=known, audit=audit, metrics=metrics, admits=admits,
            key=b"k" * 32,
        ),
        known, audit, metrics,
    )  # fmt: skip

    async def serve(request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        house.requests.append({"method": request.method, "headers": dict(request.headers), "body": body})
        if house.answer is not None:
            return await house.answer(request)
        told = {"jsonrpc": "2.0", "id": 1, "result": {"headers": dict(request.headers), "path": request.path_qs}}
        return web.json_response(told, headers={"Mcp-Session-Id": "theirs-1", "Set-Cookie": "a=b"})

    app = web.Application()
    app.router.add_route("*", "/mcp", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    house.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    try:
        yield house
    finally:
        await clients.close()
        await runner.cleanup()
