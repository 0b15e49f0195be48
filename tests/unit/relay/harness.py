"""A relay with a real meter behind a real socket, for tests that look at bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from carrel.clock import SystemClock
from carrel.declare.allowlists import Allowlists
from carrel.declare.base import SecretRef
from carrel.declare.gateway import Gateway, ModelConfig, ProviderConfig
from carrel.declare.rate_card import RateCard, Rates
from carrel.errors import CarrelError, QuotaExceeded, UpstreamError
from carrel.ids import RequestId, new_request_id
from carrel.metering.ledger import LedgerEntry
from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.embeddings import EmbeddingsFields
from carrel.relay.dialects.messages import CountFields, MessagesFields
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.dialects.responses import ResponsesFields
from carrel.relay.relay import Relay
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant
from tests.fakes.patience import PATIENCE
from tests.fakes.tenants import make_tenant

KEY = "sk-operator-0123456789"
MODELS = (
    "fake-ok", "fake-tools", "fake-cached", "fake-slow", "fake-stalled", "fake-stalled-later", "fake-cut",
    "fake-malformed", "fake-limited", "fake-limited-always", "fake-flaky", "fake-down", "fake-refused",
    "fake-dropped", "fake-dropped-always", "fake-big", "fake-usage-none", "fake-usage-choice", "fake-usage-groq",
    "fake-usage-finish", "fake-unstreamed", "scripted",
)  # fmt: skip

CHAT = "/v1/chat/completions"
DIALECTS: dict[str, type[CallFields]] = {
    CHAT: ChatFields, "/v1/messages": MessagesFields, "/v1/messages/count_tokens": CountFields,
    "/v1/responses": ResponsesFields, "/v1/embeddings": EmbeddingsFields,
}  # fmt: skip


@dataclass(slots=True)
class Reply:
    """One answer, as bytes. ``whole`` is false where its framing was cut off."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool = True

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Bed:
    """Everything that runs."""

    relay: Relay
    meter: Metering
    tenant: Tenant
    snapshot: Snapshot
    port: int

    async def ask(
        self, body: bytes | dict[str, Any], *, timeout: float = PATIENCE, version: str = "1.1", path: str = CHAT
    ) -> Reply:
        """Send one request on a connection of its own and read the answer to its end."""
        reader, writer = await self.send(body, version=version, path=path)
        try:
            async with asyncio.timeout(timeout):
                return await read_reply(reader)
        finally:
            writer.close()

    async def send(
        self, body: bytes | dict[str, Any], *, version: str = "1.1", limit: int = 1 << 16, path: str = CHAT
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        writer.write(
            f"POST {path} HTTP/{version}\r\nHost: gateway\r\nAuthorization: Bearer tk_acme_secret\r\n"
            f"Cookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nX-Carrel-Session: s1\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return reader, writer

    async def rows(self) -> list[LedgerEntry]:
        """All of the ledger."""
        found, _ = await self.meter.rows(self.tenant, parse_period("today", SystemClock().now()))
        return found

    async def row(self) -> LedgerEntry:
        """The one row, once it is there."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = await self.rows()
                if found:
                    assert len(found) == 1
                    return found[0]
                await asyncio.sleep(0.02)


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """One answer by its framing."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
    status = int(head[0].split()[1])
    body = b""
    try:
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            await reader.readexactly(2)
        else:
            body = await reader.read()
    except asyncio.IncompleteReadError as error:
        return Reply(status, headers, body + error.partial, whole=False)
    return Reply(status, headers, body)


@asynccontextmanager
async def bed(
    state: Path, base_url: str, *, provider: dict[str, Any] | None = None, rates: Rates | None = None,
    stall_seconds: float = 60.0, **config: Any,
) -> AsyncIterator[Bed]:  # fmt: skip
    """A relay to ``base_url``; ``config`` are fields of the tenant, ``provider`` of its provider."""
    tenant = make_tenant(state, **config)
    models: dict[str, Any] = {m: ModelConfig(provider="vendor", context_window=100_000, max_output=500) for m in MODELS}
    models["alias"] = ModelConfig(provider="vendor", upstream="fake-ok")
    models["unpriced"] = ModelConfig(provider="vendor")
    models["elsewhere"] = ModelConfig(provider="demo")
    settings: dict[str, Any] = {"api_key": SecretRef(secret="vendor-key"), **(provider or {})}
    gateway = Gateway(
        providers={
            "vendor": ProviderConfig.model_validate({"kind": "openai", "base_url": base_url, **settings}),
            "demo": ProviderConfig(kind="demo"),
        },
        models=models,
    )  # fmt: skip
    rates = rates or Rates(input=Decimal(1), output=Decimal(2), cache_read=Decimal("0.1"))
    card = RateCard(markup=Decimal("1.25"), models={m: rates for m in models if m != "unpriced"})
    snapshot = Snapshot("r1", gateway, card, "c" * 64, Allowlists(), {tenant.id: tenant})
    clock, tasks, metrics = SystemClock(), Tasks("test"), Metrics()
    meter = Metering(state_dir=state, clock=clock, tasks=tasks, metrics=metrics)
    await meter.start()
    secrets = SecretStore(
        credentials_dir=None, secrets_dir=None,
        environ={"CARREL_SECRET_VENDOR_KEY": KEY, "CARREL_SECRET_OWN_KEY": "sk-own-9876543210"},
    )  # fmt: skip
    relay = Relay(
        meter=meter, secrets=secrets, clock=clock, tasks=tasks, metrics=metrics, stall_seconds=stall_seconds
    )  # fmt: skip

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await relay.handle(
                request, tenant, snapshot, RequestId(new_request_id()), await request.read(),
                dialect=DIALECTS[request.path],
            )  # fmt: skip
        except CarrelError as error:
            status = 429 if isinstance(error, QuotaExceeded) else 502 if isinstance(error, UpstreamError) else 400
            return web.json_response({"code": error.code, "message": error.message, **error.details}, status=status)

    server = web.Server(handler, handler_cancellation=True)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield Bed(relay, meter, tenant, snapshot, listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await server.shutdown(1.0)
        await relay.close()
        await meter.close()
        await tasks.close()
        tenant.root.close()
