from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.gateway import ProviderConfig
from carrel.declare.tenant import TenantProvider
from carrel.errors import InvalidRequest, NotFound, UpstreamError
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.targets import KEY_SECONDS, Targets
from carrel.secrets import SecretStore
from carrel.tenancy.handle import Snapshot, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_snapshot, make_tenant

CHAT = ChatFields(model="m")


class Place:
    def __init__(self, path: Path) -> None:
        self.secrets = path / "secrets"
        self.secrets.mkdir()
        self.clock = FakeClock()
        self.targets = Targets(
            secrets=SecretStore(credentials_dir=None, secrets_dir=self.secrets, environ={}), clock=self.clock
        )  # fmt: skip
        (self.secrets / "key").write_text("sk-one\n")
        (self.secrets / "own").write_text("sk-own")
        self.tenant = make_tenant(path)

    def snapshot(self, **settings: Any) -> Snapshot:
        settings = {"base_url": "http://127.0.0.1:9/v1", "api_key": SecretRef(secret="key"), **settings}
        providers = {"v": ProviderConfig(kind="openai", **settings), "demo": ProviderConfig(kind="demo")}
        return make_snapshot(self.tenant, providers=providers)

    def with_own_key(self, name: str = "own") -> Tenant:
        own = {"v": TenantProvider(api_key=SecretRef(secret=name))}
        return replace(self.tenant, config=self.tenant.config.model_copy(update={"providers": own}))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    made.targets.close()
    made.tenant.root.close()


async def test_a_target_is_kept_and_its_key_looked_at_again(place: Place) -> None:
    snapshot = place.snapshot()
    assert place.targets.known(snapshot, place.tenant, "v", CHAT) is None
    first = await place.targets.get(snapshot, place.tenant, "v", CHAT)
    assert b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:9\r\n" in first.head
    assert b"\r\nAuthorization: Bearer sk-one\r\n" in first.head
    assert place.targets.known(snapshot, place.tenant, "v", CHAT) is first
    (place.secrets / "key").write_text("sk-two")
    place.clock.advance(KEY_SECONDS + 1)
    assert place.targets.known(snapshot, place.tenant, "v", CHAT) is None
    second = await place.targets.get(snapshot, place.tenant, "v", CHAT)
    assert b"sk-two" in second.head
    assert second.pool is first.pool
    assert place.targets.known(place.snapshot(), place.tenant, "v", CHAT) is None


async def test_a_tenants_own_key_is_its_own(place: Place) -> None:
    snapshot = place.snapshot()
    own = await place.targets.get(snapshot, place.with_own_key(), "v", CHAT)
    assert own.byo
    assert b"sk-own" in own.head
    theirs = await place.targets.get(snapshot, place.tenant, "v", CHAT)
    assert not theirs.byo
    assert b"sk-one" in theirs.head
    assert place.targets.known(snapshot, place.with_own_key(), "v", CHAT) is own


async def test_another_key_of_the_tenants_own_is_used_for_the_next_call(place: Place) -> None:
    snapshot = place.snapshot()
    await place.targets.get(snapshot, place.with_own_key(), "v", CHAT)
    (place.secrets / "newer").write_text("sk-newer")
    other = place.with_own_key("newer")
    assert place.targets.known(snapshot, other, "v", CHAT) is None
    assert b"sk-newer" in (await place.targets.get(snapshot, other, "v", CHAT)).head
    assert place.targets.known(snapshot, other, "v", CHAT) is not None
    assert place.targets.known(snapshot, place.with_own_key("gone"), "v", CHAT) is None


async def test_what_cannot_be_used(place: Place) -> None:
    snapshot = place.snapshot()
    with pytest.raises(NotFound):
        await place.targets.get(snapshot, place.tenant, "nope", CHAT)
    with pytest.raises(InvalidRequest):
        await place.targets.get(snapshot, place.tenant, "demo", CHAT)
    (place.secrets / "key").write_bytes(b"sk-1\r\nX-Evil: 1")
    with pytest.raises(UpstreamError, match="not plain text"):
        await place.targets.get(snapshot, place.tenant, "v", CHAT)
    (place.secrets / "key").unlink()
    with pytest.raises(UpstreamError, match="is not set"):
        await place.targets.get(snapshot, place.tenant, "v", CHAT)


@pytest.mark.parametrize(
    ("base_url", "line", "host"),
    [
        ("https://api.example.com/v1/", b"POST /v1/chat/completions", b"Host: api.example.com\r\n"),
        ("http://[::1]:8000", b"POST /chat/completions", b"Host: [::1]:8000\r\n"),
        ("https://x.example/d?api-version=1", b"POST /d/chat/completions?api-version=1", b"Host: x.example\r\n"),
        (None, b"POST /v1/chat/completions", b"Host: api.openai.com\r\n"),
    ],
)
async def test_addresses(place: Place, base_url: str | None, line: bytes, host: bytes) -> None:
    target = await place.targets.get(place.snapshot(base_url=base_url), place.tenant, "v", CHAT)
    assert target.head.startswith(line + b" HTTP/1.1\r\n")
    assert host in target.head
    assert target.head.endswith(b"\r\nContent-Length: ")


async def test_a_server_that_takes_no_key_gets_none(place: Place) -> None:
    target = await place.targets.get(place.snapshot(api_key=None), place.tenant, "v", CHAT)
    assert b"Authorization" not in target.head
