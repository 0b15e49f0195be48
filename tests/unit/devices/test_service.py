"""Pairing, and tokens of devices."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from carrel.devices.service import CODE_LIFE, MOST_WAITING, REQUEST_LIFE, Devices
from carrel.errors import InvalidRequest, NotFound, RateLimited
from carrel.events.hub import Hub, Subscription
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.tokens import TokenStore
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_snapshot, make_tenant


class Rig:
    """Devices over the real store of tokens."""

    def __init__(self, state: Path) -> None:
        self.clock, self.directory = FakeClock(), Directory()
        self.acme, self.bravo = make_tenant(state), make_tenant(state, "bravo")
        self.directory.publish(make_snapshot(self.acme, self.bravo))
        self.tokens = TokenStore(state_dir=state, clock=self.clock)
        self.hub = Hub(clock=self.clock)
        self.devices = Devices(directory=self.directory, clock=self.clock, hub=self.hub, tokens=self.tokens)

    def good(self, token: str | None) -> tuple[str, ...] | None:
        record = self.tokens.verify(token or "", self.clock.now())
        return None if record is None else record.scopes

    async def paired(self, tenant: Tenant, request: str = "pair_1", role: str = "operator") -> tuple[str, str]:
        code = self.devices.make_code(tenant, role="node" if role == "node" else "operator")
        asked, secret = self.devices.use_code(code.text, request_id=request, name="phone", platform="x")
        device = await self.devices.approve(tenant, asked.id, scopes=None, by="t")
        _, _, token = await self.devices.claim(asked.id, secret)
        assert token is not None
        return device.id, token


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


async def test_a_device_is_paired_by_a_code_and_a_decision(rig: Rig) -> None:
    code = rig.devices.make_code(rig.acme, role="operator")
    asked, secret = rig.devices.use_code(
        f" {code.text[:4]}-{code.text[4:].lower()} ", request_id="p", name="n", platform=""
    )
    assert await rig.devices.claim("p", secret) == ("waiting", None, None)
    assert [one.id for one in rig.devices.waiting(rig.acme)] == ["p"]
    assert rig.devices.waiting(rig.bravo) == []
    with pytest.raises(NotFound):
        await rig.devices.approve(rig.bravo, "p", scopes=None, by="t")
    device = await rig.devices.approve(rig.acme, asked.id, scopes=None, by="t")
    with pytest.raises(NotFound):
        await rig.devices.claim("p", "wrong")
    status, claimed, token = await rig.devices.claim("p", secret)
    assert (status, claimed, rig.good(token)) == ("approved", device, ("chat", "rpc"))
    again = (await rig.devices.claim("p", secret))[2]
    assert (rig.good(token), rig.good(again)) == (None, ("chat", "rpc"))
    with pytest.raises(NotFound):
        rig.devices.use_code(code.text, request_id="q", name="n", platform="")


async def test_codes_and_requests_end(rig: Rig) -> None:
    code = rig.devices.make_code(rig.acme, role="operator")
    rig.clock.advance(CODE_LIFE.total_seconds())
    with pytest.raises(NotFound):
        rig.devices.use_code(code.text, request_id="p", name="n", platform="")
    _, secret = rig.devices.ask(rig.acme, request_id="p", name="n", platform="", role="node", member=None)
    rig.clock.advance((REQUEST_LIFE + timedelta(seconds=1)).total_seconds())
    with pytest.raises(NotFound):
        await rig.devices.claim("p", secret)


async def test_a_rejected_device_gets_nothing(rig: Rig) -> None:
    asked, secret = rig.devices.ask(rig.acme, request_id="p", name="n", platform="", role="node", member=None)
    rig.devices.reject(rig.acme, asked.id)
    assert await rig.devices.claim("p", secret) == ("rejected", None, None)
    with pytest.raises(NotFound):
        rig.devices.reject(rig.acme, asked.id)
    assert await rig.devices.list(rig.acme) == []


async def test_who_listens_is_told_of_the_request_that_was_decided(rig: Rig) -> None:
    told: list[dict[str, Any]] = []
    listening = Subscription(None, ("device",), lambda event: told.append(json.loads(event.text)["params"]))
    rig.hub.subscribe(rig.acme, listening)
    device_id, _ = await rig.paired(rig.acme, "yes", role="node")
    asked, _ = rig.devices.ask(rig.acme, request_id="no", name="n", platform="", role="node", member=None)
    rig.devices.reject(rig.acme, asked.id)
    decided = [one["payload"] for one in told if one["event"] in ("device.paired", "device.pair.rejected")]
    assert [(one["requestId"], one["role"], one.get("deviceId")) for one in decided] == [
        ("yes", "node", device_id), ("no", "node", None),
    ]  # fmt: skip


async def test_a_node_has_the_scope_of_nodes_alone(rig: Rig) -> None:
    _, token = await rig.paired(rig.acme, role="node")
    assert rig.good(token) == ("node",)
    rig.devices.ask(rig.acme, request_id="p", name="n", platform="", role="node", member=None)
    with pytest.raises(InvalidRequest):
        await rig.devices.approve(rig.acme, "p", scopes=("rpc",), by="t")
    rig.devices.ask(rig.acme, request_id="q", name="n", platform="", role="operator", member=None)
    with pytest.raises(InvalidRequest):
        await rig.devices.approve(rig.acme, "q", scopes=("node",), by="t")
    with pytest.raises(NotFound):
        await rig.devices.approve(rig.acme, "q", scopes=None, by="t", role="node")


async def test_tokens_are_rotated_and_revoked(rig: Rig) -> None:
    device, first = await rig.paired(rig.acme)
    _, second = await rig.devices.rotate(rig.acme, device)
    assert (rig.good(first), rig.good(second)) == (None, ("chat", "rpc"))
    assert (await rig.devices.revoke(rig.acme, device)).revoked is not None
    assert rig.good(second) is None
    assert (await rig.devices.revoke(rig.acme, device)).revoked is not None
    for refused in (rig.devices.rotate(rig.bravo, device), rig.devices.revoke(rig.bravo, device)):
        with pytest.raises(NotFound):
            await refused
    changed, third = await rig.devices.rotate(rig.acme, device)
    assert (changed.revoked, rig.good(third)) == (None, ("chat", "rpc"))


async def test_devices_are_kept_and_renamed(rig: Rig) -> None:
    device, _ = await rig.paired(rig.acme, role="node")
    await rig.devices.rename(rig.acme, device, "laptop", role="node")
    assert [(one.id, one.name) for one in await rig.devices.list(rig.acme, role="node")] == [(device, "laptop")]
    assert await rig.devices.list(rig.acme, role="operator") == []


async def test_nobody_fills_the_list_of_those_who_wait(rig: Rig) -> None:
    for number in range(MOST_WAITING):
        rig.devices.ask(rig.acme, request_id=f"p{number}", name="n", platform="", role="node", member=None)
        rig.devices.make_code(rig.acme, role="node")
    with pytest.raises(RateLimited):
        rig.devices.ask(rig.acme, request_id="x", name="n", platform="", role="node", member=None)
    with pytest.raises(RateLimited):
        rig.devices.make_code(rig.acme, role="node")
    rig.devices.make_code(rig.bravo, role="node")
