"""Nodes that are connected."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from carrel.devices.nodes import NodeFailed, Nodes, NodeTimeout
from carrel.errors import InvalidRequest, NotFound, Unavailable
from carrel.events.hub import Hub
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_tenant


class Wire:
    """A node's connection: remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.ends: list[Callable[[], None]] = []
        self.closed = False

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self.told.append((method, params))

    def on_close(self, call: Callable[[], None]) -> None:
        self.ends.append(call)

    def close(self) -> None:
        self.closed = True
        for call in self.ends:
            call()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks("test")
    yield made
    await made.close()


@pytest.fixture
def acme(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path)


def connected(tenant: Tenant) -> tuple[Nodes, Wire]:
    clock = FakeClock()
    nodes, wire = Nodes(clock=clock, hub=Hub(clock=clock)), Wire()
    nodes.connect(tenant, "dev_1", wire, platform="x", version="1", capabilities=(), commands=("notify",))
    return nodes, wire


async def asked(wire: Wire) -> dict[str, Any]:
    while not wire.told:
        await asyncio.sleep(0)
    return wire.told[-1][1]


async def test_a_call_goes_out_and_comes_back(acme: Tenant, tasks: Tasks) -> None:
    nodes, wire = connected(acme)
    call = tasks.start(nodes.invoke(acme, "dev_1", "notify", {"body": "x"}, seconds=60), name="call")
    ask = await asked(wire)
    assert (ask["command"], ask["params"], ask["timeoutMs"]) == ("notify", {"body": "x"}, 60_000)
    with pytest.raises(NotFound):
        nodes.answer(acme, "dev_2", ask["id"], result=1, error=None)
    nodes.answer(acme, "dev_1", ask["id"], result={"shown": True}, error=None)
    assert await call == {"shown": True}
    with pytest.raises(NotFound):
        nodes.answer(acme, "dev_1", ask["id"], result=1, error=None)


async def test_what_the_node_refuses_is_told(acme: Tenant, tasks: Tasks) -> None:
    nodes, wire = connected(acme)

    async def refuse() -> None:
        nodes.answer(acme, "dev_1", (await asked(wire))["id"], result=None, error=("not_allowed", "no"))

    tasks.start(refuse(), name="refuse")
    with pytest.raises(NodeFailed) as failed:
        await nodes.invoke(acme, "dev_1", "notify", {}, seconds=60)
    assert failed.value.details["nodeCode"] == "not_allowed"


async def test_no_answer_in_time_cancels_the_call(acme: Tenant) -> None:
    nodes, wire = connected(acme)
    with pytest.raises(NodeTimeout):
        await nodes.invoke(acme, "dev_1", "notify", {}, seconds=0.01)
    assert [method for method, _ in wire.told] == ["node.invoke", "node.cancel"]


async def test_a_node_that_goes_away_fails_its_calls(acme: Tenant, tasks: Tasks) -> None:
    nodes, wire = connected(acme)

    async def leave() -> None:
        await asked(wire)
        wire.close()

    tasks.start(leave(), name="leave")
    with pytest.raises(Unavailable):
        await nodes.invoke(acme, "dev_1", "notify", {}, seconds=60)
    assert nodes.all(acme) == []
    with pytest.raises(Unavailable):
        await nodes.invoke(acme, "dev_1", "notify", {}, seconds=60)


async def test_a_newer_connection_takes_the_place_of_the_older(acme: Tenant) -> None:
    nodes, first = connected(acme)
    second = Wire()
    nodes.connect(acme, "dev_1", second, platform="x", version="2", capabilities=(), commands=())
    first.close()
    node = nodes.get(acme, "dev_1")
    assert node is not None
    assert node.peer is second
    nodes.tell(acme, "hello", {})
    assert (len(first.told), len(second.told)) == (0, 1)


async def test_what_is_not_offered_and_other_tenants_nodes_are_refused(acme: Tenant, tmp_path: Path) -> None:
    nodes, _ = connected(acme)
    with pytest.raises(InvalidRequest, match="notify"):
        await nodes.invoke(acme, "dev_1", "notifi", {}, seconds=1)
    with pytest.raises(Unavailable):
        await nodes.invoke(make_tenant(tmp_path, "bravo"), "dev_1", "notify", {}, seconds=1)
