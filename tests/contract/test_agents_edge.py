"""The real agents behind the real edge: what HTTP asks of them is what they give."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.agents.run import Agents
from carrel.agents.sessions import Sessions
from carrel.clock import SystemClock
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.agents import DemoProviders, RecordingMeter
from tests.fakes.edge import ADMIN_KEY, Edge, bearer, chat_body, running_edge, token_of
from tests.fakes.patience import PATIENCE
from tests.fakes.sandbox import FakeEnvironments, FakeSandbox

TOKEN = bearer(token_of("acme"))


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    sessions, tasks = Sessions(clock=SystemClock()), Tasks("agents")
    agents = Agents(
        sessions=sessions, providers=DemoProviders(), meter=RecordingMeter(), sandbox=FakeSandbox(),
        environments=FakeEnvironments(), clock=SystemClock(), tasks=tasks, metrics=Metrics(),
    )  # fmt: skip
    async with running_edge(tmp_path, agents=agents, sessions=sessions) as edge:
        yield edge
    await tasks.close()
    await sessions.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as client:
        yield client


async def rpc(edge: Edge, client: aiohttp.ClientSession, method: str, tenant: str = "acme", **params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with client.post(edge.url + "/rpc", json=body, headers=bearer(token_of(tenant))) as reply:
        found = await reply.json()
        return found.get("result", found.get("error"))


async def test_a_completion_is_the_agents_answer_and_its_session_goes_on(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    url = edge.url + "/v1/chat/completions"
    async with client.post(url, data=chat_body("run: echo 42"), headers=TOKEN) as reply:
        assert reply.status == 200
        session = reply.headers["X-Carrel-Session"]
        message = (await reply.json())["choices"][0]["message"]
        assert "42" in message["content"]
        assert not message.get("tool_calls")
    async with client.post(
        url, data=chat_body("hello", stream=True), headers={**TOKEN, "X-Carrel-Session": session}
    ) as reply:
        text = (await reply.read()).decode()
    pieces = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "demo provider" in "".join(p["choices"][0]["delta"].get("content") or "" for p in pieces if p["choices"])
    assert text.rstrip().endswith("data: [DONE]")
    listed = await rpc(edge, client, "sessions.list", includeLastMessage=True)
    [entry] = listed["sessions"]
    assert (entry["sessionId"], entry["messageCount"], entry["model"], entry["kind"]) == (session, 5, "demo", "direct")
    assert entry["totalTokens"] == entry["inputTokens"] + entry["outputTokens"] > 0
    assert "demo provider" in entry["lastMessage"]


async def test_rpc_makes_uses_and_removes_sessions(edge: Edge, client: aiohttp.ClientSession) -> None:
    made = await rpc(edge, client, "sessions.create", label="notes")
    sent = await rpc(edge, client, "sessions.send", sessionId=made["sessionId"], message="run: echo hi")
    assert [tool["name"] for tool in sent["toolCalls"]] == ["shell"]
    previews = (await rpc(edge, client, "sessions.preview", keys=[made["key"], "none"]))["previews"]
    assert [p["status"] for p in previews] == ["ok", "missing"]
    assert previews[0]["items"][0] == {"role": "user", "text": "run: echo hi"}
    assert (await rpc(edge, client, "sessions.reset", key=made["key"]))["ok"]
    assert (await rpc(edge, client, "sessions.preview", keys=[made["key"]]))["previews"][0]["status"] == "empty"
    theirs = await rpc(edge, client, "sessions.delete", "bravo", key=made["key"])
    nobodys = await rpc(edge, client, "sessions.delete", "bravo", key="none")
    assert (theirs["code"], theirs["message"]) == (nobodys["code"], nobodys["message"]) == (-32004, "No such session.")
    assert (await rpc(edge, client, "sessions.delete", key=made["key"]))["ok"]
    assert (await rpc(edge, client, "sessions.list"))["count"] == 0


async def test_the_operators_chat_shows_the_tools(edge: Edge, client: aiohttp.ClientSession) -> None:
    url = edge.url + "/v1/tenants/acme/chat"
    async with client.post(url, json={"message": "write: a\nb"}, headers=bearer(ADMIN_KEY)) as reply:
        kinds = [line[7:] for line in (await reply.text()).splitlines() if line.startswith("event: ")]
    assert kinds[:3] == ["session", "tool_started", "tool_finished"]
    assert kinds[-1] == "finished"
