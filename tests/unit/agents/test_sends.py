"""Turns that somebody waits for."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.agents.events import Turn
from carrel.agents.sends import Sends, TurnCancelled
from carrel.errors import Conflict
from carrel.ids import RequestId, SessionId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Message, Text
from tests.fakes.edge import FakeAgents, SessionBook
from tests.fakes.tenants import make_snapshot, make_tenant


def turn(text: str) -> Turn:
    return Turn("main", SessionId("s"), (Message("user", (Text(text),)),), RequestId("r"))


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks("test")
    yield made
    await made.close()


@pytest.fixture
def agents() -> FakeAgents:
    return FakeAgents(SessionBook(), error=Conflict("no"))


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path)


async def test_a_turn_is_collected(tasks: Tasks, agents: FakeAgents, tenant: Tenant) -> None:
    said = await Sends(agents, tasks=tasks).send(tenant, make_snapshot(tenant), turn("wait: 0"))
    assert said.finished.text == "You said: wait: 0"
    assert [tool.name for tool in said.tools] == ["shell"]


async def test_an_error_is_the_callers(tasks: Tasks, agents: FakeAgents, tenant: Tenant) -> None:
    with pytest.raises(Conflict):
        await Sends(agents, tasks=tasks).send(tenant, make_snapshot(tenant), turn("fail"))


async def test_a_turn_is_cancelled_by_its_session(tasks: Tasks, agents: FakeAgents, tenant: Tenant) -> None:
    sends = Sends(agents, tasks=tasks)
    waiting = tasks.start(_outcome(sends, tenant), name="waiting")
    while not agents.turns:
        await asyncio.sleep(0)
    assert sends.cancel(tenant, SessionId("other")) == 0
    assert sends.cancel(tenant, SessionId("s")) == 1
    assert isinstance(await waiting, TurnCancelled)
    assert agents.cancelled == 1
    assert sends.cancel(tenant, SessionId("s")) == 0


async def test_who_goes_away_ends_the_turn(tasks: Tasks, agents: FakeAgents, tenant: Tenant) -> None:
    waiting = tasks.start(_outcome(Sends(agents, tasks=tasks), tenant), name="waiting")
    while not agents.turns:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert agents.cancelled == 1


async def _outcome(sends: Sends, tenant: Tenant) -> object:
    try:
        return await sends.send(tenant, make_snapshot(tenant), turn("wait: 60"))
    except TurnCancelled as error:
        return error
