"""Which provider a tenant gets, with whose key, and how long it is kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.gateway import ModelConfig, ProviderConfig
from carrel.declare.tenant import TenantProvider
from carrel.errors import NotFound, Unavailable, UpstreamError
from carrel.providers.guard import Guard
from carrel.providers.registry import Providers
from carrel.secrets import SecretStore
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import Finished, Message, ModelRequest, Text
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.fakes.vendor import FakeVendor, Script

ASK = ModelRequest("fake-ok", (Message("user", (Text("hi"),)),))
OWN = {"openai": TenantProvider(api_key=SecretRef(secret="OWN"))}


class World:
    """A vendor, a directory of secrets, a clock and a registry."""

    def __init__(self, vendor: FakeVendor, path: Path) -> None:
        self.vendor = vendor
        self.path = path
        self.clock = FakeClock()
        self.secrets = path / "secrets"
        self.secrets.mkdir()
        self.set("OPERATOR", "sk-operator")
        store = SecretStore(credentials_dir=None, secrets_dir=self.secrets, environ={})
        self.providers = Providers(secrets=store, clock=self.clock, max_idle_seconds=60)

    def set(self, name: str, value: str) -> None:
        (self.secrets / name).write_text(value)

    def tenant(self, name: str = "acme", **config: Any) -> Tenant:
        return make_tenant(self.path, name, **config)

    def snapshot(self, **config: float) -> Snapshot:
        openai = ProviderConfig.model_validate(
            {"kind": "openai", "base_url": self.vendor.openai_url, "api_key": SecretRef(secret="OPERATOR"), **config}
        )
        return make_snapshot(providers={"openai": openai, "demo": ProviderConfig(kind="demo")})

    async def ask(self, tenant: Tenant, snapshot: Snapshot | None = None, request: ModelRequest = ASK) -> str:
        """The authorization that the vendor saw."""
        provider = self.providers.get(snapshot or self.snapshot(), tenant, "openai")
        events = [event async for event in provider.stream(request)]
        assert isinstance(events[-1], Finished)
        return self.vendor.last.headers["authorization"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with FakeVendor() as vendor:
        world = World(vendor, tmp_path)
        yield world
        await world.providers.close()


async def test_the_operators_key_and_a_tenants_own(world: World) -> None:
    world.set("OWN", "sk-own")
    plain, own = world.tenant("plain"), world.tenant("own", providers=OWN)
    assert await world.ask(plain) == "Bearer sk-operator"
    assert await world.ask(own) == "Bearer sk-own"
    assert await world.ask(plain) == "Bearer sk-operator"
    assert world.providers.open_count == 2
    assert world.providers.get(world.snapshot(), own, "openai").byo
    assert not world.providers.get(world.snapshot(), own, "demo").byo


async def test_one_tenants_own_key_is_never_anothers(world: World) -> None:
    world.set("OWN", "sk-a")
    assert await world.ask(world.tenant("a", providers=OWN)) == "Bearer sk-a"
    world.set("OWN", "sk-b")
    assert await world.ask(world.tenant("b", providers=OWN)) == "Bearer sk-b"


async def test_a_rotated_key_and_a_changed_configuration_count_at_the_next_call(world: World) -> None:
    tenant = world.tenant()
    await world.ask(tenant)
    world.set("OPERATOR", "sk-rotated")
    assert await world.ask(tenant) == "Bearer sk-rotated"
    await world.ask(tenant, world.snapshot(max_retries=1))
    assert world.providers.open_count == 1


async def test_what_is_stale_ends_its_calls_first(world: World) -> None:
    tenant = world.tenant()
    world.vendor.script("slow", Script(hold_at=2))
    slow = ModelRequest("slow", ASK.messages)
    running = asyncio.ensure_future(world.ask(tenant, request=slow))
    await eventually(lambda: world.vendor.received)
    world.set("OPERATOR", "sk-rotated")
    assert await world.ask(tenant) == "Bearer sk-rotated"
    assert world.providers.open_count == 2
    world.vendor.go_on.set()
    await running
    assert world.providers.open_count == 1


async def test_the_idle_are_closed(world: World) -> None:
    world.set("OWN", "sk-own")
    await world.ask(world.tenant("plain"))
    world.clock.advance(61)
    await world.ask(world.tenant("own", providers=OWN))
    assert world.providers.open_count == 1
    world.clock.advance(61)
    await world.providers.sweep()
    assert world.providers.open_count == 0


async def test_a_missing_key_is_said_at_the_call(world: World) -> None:
    tenant = world.tenant("own", providers=OWN)
    provider = world.providers.get(world.snapshot(), tenant, "openai")
    with pytest.raises(UpstreamError, match="'OWN' is not set") as caught:
        await anext(provider.stream(ASK))
    assert not caught.value.retryable
    assert str(world.path) not in caught.value.message


async def test_an_unknown_name(world: World) -> None:
    with pytest.raises(NotFound):
        world.providers.get(world.snapshot(), world.tenant(), "nobody")


async def test_the_demo_needs_nothing(world: World) -> None:
    provider = world.providers.get(world.snapshot(), world.tenant(), "demo")
    assert provider.name == "demo"
    assert isinstance([event async for event in provider.stream(ASK)][-1], Finished)
    assert world.vendor.received == []


async def test_after_the_end_nothing_begins(world: World) -> None:
    await world.providers.close()
    with pytest.raises(Unavailable):
        await world.ask(world.tenant())


async def test_a_tenants_id_is_never_sent_to_a_vendor(world: World) -> None:
    await world.ask(world.tenant("zebra-tenant-77", display_name="Zebra Inc"))
    received = world.vendor.last
    everything = repr(received.headers) + received.raw.decode() + received.path
    assert "zebra" not in everything.lower()
    assert "fake-ok" in everything


async def test_a_call_has_a_place_at_its_provider_and_tells_how_it_went(world: World) -> None:
    world.providers.guard = guard = Guard(world.clock)
    snapshot = world.snapshot(max_retries=0)
    await world.ask(world.tenant(), snapshot)
    [told] = guard.report()
    assert (told.name, told.running, told.failures) == ("openai", 0, 0)
    world.vendor.script("fake-ok", Script(status=503, error="Unavailable."))
    with pytest.raises(UpstreamError):
        await world.ask(world.tenant(), snapshot)
    [told] = guard.report()
    assert (told.running, told.failures) == (0, 1)
    async for _ in world.providers.get(snapshot, world.tenant(), "demo").stream(ASK):
        continue
    assert len(guard.report()) == 1, "what is no vendor has no places"


async def test_a_call_is_made_once_more_where_that_is_declared_and_a_place_is_free(world: World) -> None:
    tenant, guard = world.tenant(), Guard(world.clock)
    patient = ProviderConfig(kind="openai")
    slow = ProviderConfig(kind="openai", hedge_after_ms=5, max_connections=2)
    models = {name: ModelConfig(provider=name) for name in ("openai", "patient")}
    snapshot = make_snapshot(providers={"openai": slow, "patient": patient}, models=models)
    assert world.providers.hedge(snapshot, tenant, "openai") is None, "nobody knows of a free place"
    world.providers.guard = guard
    hedge = world.providers.hedge(snapshot, tenant, "openai")
    assert hedge is not None
    assert (hedge.after, hedge.has_room()) == (0.005, True)
    tickets = [guard.enter_now(tenant, "openai", slow) for _ in range(2)]
    assert not hedge.has_room()
    for ticket in tickets:
        if ticket is not None:
            ticket.end()
    assert hedge.has_room()
    assert world.providers.hedge(snapshot, tenant, "patient") is None
    assert world.providers.hedge(snapshot, world.tenant("own", providers=OWN), "openai") is None
