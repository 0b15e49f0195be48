"""A turn with everything in it."""

import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from carrel.agents.events import (
    AgentEvent,
    AnswerDelta,
    Notice,
    ThinkingPiece,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    TurnFinished,
)
from carrel.declare.rate_card import TokenCounts
from carrel.declare.tenant import Member
from carrel.errors import UpstreamError
from carrel.http.tenant_chat import render
from carrel.ids import SessionId, TenantId
from tests.fakes.edge import ADMIN_KEY, Edge, bearer, token_of


async def chat(
    edge: Edge, client: aiohttp.ClientSession, body: Any, *, tenant: str = "acme", key: str = ADMIN_KEY
) -> Any:
    url = f"{edge.url}/v1/tenants/{tenant}/chat"
    async with client.post(url, json=body, headers=bearer(key)) as reply:
        text = await reply.text()
        if reply.status != 200:
            return reply.status, json.loads(text)
        blocks = [block.split("\n") for block in text.strip().split("\n\n")]
        return 200, [(b[0].removeprefix("event: "), json.loads(b[1].removeprefix("data: "))) for b in blocks]


async def test_the_turn_with_its_tools(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, events = await chat(edge, client, {"message": "wait: 0.01", "session": "mine"})
    assert status == 200
    assert [kind for kind, _ in events] == ["session", "tool_started", "tool_finished", "text", "text", "finished"]
    assert all(kind == data["kind"] for kind, data in events)
    assert events[0][1]["session"] == "mine"
    assert events[1][1]["arguments"] == '{"command": "sleep"}'
    assert events[-1][1]["usage"]["input_tokens"] == 7
    assert edge.agents.turns[0].session_id == "mine"
    assert edge.meter.admitted == 1


async def test_an_operator_may_speak_as_a_member_whom_there_is(edge: Edge, client: aiohttp.ClientSession) -> None:
    acme = edge.directory.current.tenant(TenantId("acme"))
    edge.publish(replace(acme, config=acme.config.model_copy(update={"members": (Member(name="ada"),)})))
    assert (await chat(edge, client, {"message": "hi", "member": "ada"}))[0] == 200
    assert (await chat(edge, client, {"message": "hi"}))[0] == 200
    assert edge.agents.members == ["ada", None]
    status, problem = await chat(edge, client, {"message": "hi", "member": "adda"})
    assert (status, problem["param"]) == (400, "member")
    assert "did you mean ada" in problem["detail"]


async def test_errors_before_and_in_the_stream(edge: Edge, client: aiohttp.ClientSession) -> None:
    edge.agents.error = UpstreamError("The vendor refused.", status=400)
    status, problem = await chat(edge, client, {"message": "fail"})
    assert (status, problem["code"]) == (400, "upstream_error")
    _, events = await chat(edge, client, {"message": "fail late"})
    assert events[-1] == ("error", {"kind": "error", "code": "upstream_error", "text": "The vendor refused."})


async def test_what_is_refused(edge: Edge, client: aiohttp.ClientSession) -> None:
    for body, tenant, key, expected in (
        ({"message": ""}, "acme", ADMIN_KEY, 400),
        ({"message": "x", "agent": "nobody"}, "acme", ADMIN_KEY, 404),
        ({"message": "x", "session": "../y"}, "acme", ADMIN_KEY, 400),
        ({"message": "x"}, "nobody", ADMIN_KEY, 404),
        ({"message": "x"}, "acme", token_of("acme"), 403),
    ):  # fmt: skip
        assert (await chat(edge, client, body, tenant=tenant, key=key))[0] == expected
    assert not edge.agents.turns


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (AnswerDelta("a"), "text"), (ThinkingPiece("a"), "thinking"), (Notice("a"), "notice"),
        (ToolStarted("1", "shell", "{}"), "tool_started"), (ToolOutput("1", "a"), "tool_output"),
        (ToolFinished("1", "shell", "a", is_error=True, seconds=1.23456), "tool_finished"),
        (TurnFinished(SessionId("s"), "a", "end", TokenCounts(), "m", 1, 1), "finished"),
    ],
)  # fmt: skip
def test_every_event_has_its_kind(event: AgentEvent, kind: str) -> None:
    rendered = render(event)
    assert rendered.kind == kind
