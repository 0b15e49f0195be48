"""Connections for tests: the real rooms over a vault on disk, and whoever listens on loopback as the vendor."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp

from carrel.clock import Clock, SystemClock
from carrel.connections.service import Connections
from carrel.declare.oauth import OAuthProvider
from carrel.egress.clients import Clients
from carrel.egress.outbound import Outbound
from carrel.egress.resolve import Dialler
from carrel.events.hub import Hub, Subscription
from carrel.ids import TenantId
from carrel.main.connections import build_connections, own_vault
from carrel.policy.egress.addresses import Network
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Tenant
from carrel.vault.ring import KeyRing
from carrel.wire.oauth import returned
from tests.fakes.administration import FakeAudit
from tests.fakes.oauth_vendor import SECRET, OAuthVendor, declared, running_vendor
from tests.fakes.tenants import make_snapshot, make_tenant

HERE = "http://127.0.0.1:18789"


class PlainClients:
    """Clients behind the guard, for `Outbound`."""

    def __init__(self) -> None:
        self.dialler = Dialler(clock=SystemClock())
        self._clients = Clients(self.dialler)

    def client(
        self, tenant_id: TenantId, permitted: tuple[Network, ...]
    ) -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        return self._clients.client(tenant_id, permitted)

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def close(self) -> None:
        await self._clients.close()


@asynccontextmanager
async def running_connections(
    state: Path, directory: Directory, clock: Clock, *, hub: Hub, audit: Any, address: str = HERE
) -> AsyncIterator[Connections]:
    """The real ones; the client's secret is there."""
    clients, tasks = PlainClients(), Tasks("connections")
    ring = KeyRing(credentials_dir=None, secrets_dir=None, state_dir=state, makes=True)
    secrets = SecretStore(credentials_dir=None, secrets_dir=None, environ={"CARREL_SECRET_VENDOR_SECRET": SECRET})
    try:
        yield build_connections(
            outbound=Outbound(clients), vault=own_vault(ring, SystemClock()), secrets=secrets, directory=directory,
            clock=clock, hub=hub, audit=audit, metrics=Metrics(), tasks=tasks, address=address,
        )  # fmt: skip
    finally:
        await tasks.drain(2.0)
        await tasks.close()
        await clients.close()


@dataclass
class Linking:
    """A tenant, a vendor that it may connect with, and a person with a browser."""

    connections: Connections
    directory: Directory
    vendor: OAuthVendor
    tenant: Tenant
    audit: FakeAudit
    told: list[str]

    def declare(self, **more: Any) -> None:
        """Declare the vendor anew, as ``more`` says."""
        provider = OAuthProvider.model_validate_json(json.dumps(declared(self.vendor.url, **more)))
        gateway = self.directory.current.gateway.model_copy(update={"oauth_providers": {"vendor": provider}})
        self.directory.publish(replace(self.directory.current, gateway=gateway))

    async def link(self, **more: Any) -> str:
        """The text of a new link."""
        order: dict[str, Any] = {"provider": "vendor", "name": None, "scopes": None, "by": "tk_acme_1", **more}
        url, _ = await self.connections.link(self.directory.current, order.pop("tenant", self.tenant), **order)
        return parse_qs(urlsplit(url).query)["link"][0]

    async def allow(self, url: str) -> dict[str, str]:
        """A person goes to the vendor's page and says yes: what the browser is sent back with."""
        async with aiohttp.ClientSession() as browser, browser.get(f"{url}&allow=1", allow_redirects=False) as reply:
            query = parse_qs(urlsplit(reply.headers["Location"]).query)
            return {name: values[0] for name, values in query.items()}

    async def linked(self, **more: Any) -> None:
        """Link an account."""
        url, _, browser = await self.connections.begin("vendor", await self.link(**more), request_id="req_1")
        await self.connections.finish(returned((await self.allow(url)).items()), browser, request_id="req_2")


@asynccontextmanager
async def linking(state: Path, *, clock: Clock | None = None, **config: Any) -> AsyncIterator[Linking]:
    """All of it."""
    tenant = make_tenant(state, "acme", **config)
    directory, hub, audit = Directory(), Hub(clock=SystemClock()), FakeAudit()
    directory.publish(make_snapshot(tenant))
    told: list[str] = []
    hub.subscribe(tenant, Subscription(tenant.own, ("connections",), lambda event: told.append(event.text)))
    async with (
        running_vendor() as vendor,
        running_connections(state, directory, clock or SystemClock(), hub=hub, audit=audit) as connections,
    ):
        made = Linking(connections, directory, vendor, tenant, audit, told)
        made.declare()
        yield made
    tenant.root.close()
