"""An agent behind OpenAI's chat completions."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from carrel.errors import UpstreamError
from carrel.http.services import Limits
from carrel.wire.conversation import Text
from tests.fakes.edge import Edge, bearer, chat_body, running_edge, token_of

ACME = bearer(token_of("acme"))
PATH = "/v1/chat/completions"


async def send(edge: Edge, client: aiohttp.ClientSession, text: str, *, headers: dict[str, str] | None = None,
               **more: Any) -> tuple[int, Any, str | None]:  # fmt: skip
    async with client.post(edge.url + PATH, data=chat_body(text, **more), headers={**ACME, **(headers or {})}) as reply:
        body = await (reply.text() if more.get("stream") else reply.json())
        return reply.status, body, reply.headers.get("X-Carrel-Session")


def chunks(text: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def test_a_whole_answer(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, body, session = await send(edge, client, "hello")
    assert status == 200
    choice = body["choices"][0]
    assert choice["message"]["content"] == "You said: hello"
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == 12
    assert session == edge.agents.turns[0].session_id


async def test_a_stream_with_a_tool_in_it_shows_no_tool(edge: Edge, client: aiohttp.ClientSession) -> None:
    status, text, session = await send(edge, client, "wait: 0.01", stream=True, stream_options={"include_usage": True})
    assert status == 200
    assert session
    assert text.endswith("data: [DONE]\n\n")
    seen = chunks(text)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in seen if c["choices"]) == "You said: wait: 0.01"
    assert "tool" not in text
    assert seen[-1]["usage"]["completion_tokens"] == 5
    assert seen[-1]["choices"] == []


async def test_the_session_is_the_headers_else_the_users_else_new(edge: Edge, client: aiohttp.ClientSession) -> None:
    _, _, named = await send(edge, client, "a", headers={"X-Carrel-Session": "mine"}, user="alice")
    _, _, alice = await send(edge, client, "b", user="alice")
    _, _, again = await send(edge, client, "c", user="alice")
    _, _, bob = await send(edge, client, "d", user="bob")
    _, _, fresh = await send(edge, client, "e")
    assert named == "mine"
    assert alice == again
    assert len({named, alice, bob, fresh}) == 4
    status, body, _ = await send(edge, client, "x", headers={"X-Carrel-Session": "../etc"})
    assert status == 400
    assert body["error"]["param"] == "session"


async def test_system_messages_are_added_to_the_agents_prompt(edge: Edge, client: aiohttp.ClientSession) -> None:
    body = {
        "model": "agent:main", "max_tokens": 9, "temperature": 0.5,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}],
    }  # fmt: skip
    async with client.post(edge.url + PATH, json=body, headers=ACME) as reply:
        assert reply.status == 200
    turn = edge.agents.turns[0]
    assert turn.system == "Be brief."
    assert [b.text for m in turn.messages for b in m.content if isinstance(b, Text)] == ["hello"]
    assert (turn.max_tokens, turn.temperature) == (9, 0.5)
    assert turn.request_id == reply.headers["X-Request-Id"]


@pytest.mark.parametrize("more", [{"n": 2}, {"tools": [{"type": "function", "function": {"name": "x"}}]},
                                  {"response_format": {"type": "json_object"}}, {"logprobs": True}])  # fmt: skip
async def test_what_an_agent_cannot_honour_is_named(
    edge: Edge, client: aiohttp.ClientSession, more: dict[str, Any]
) -> None:
    status, body, _ = await send(edge, client, "x", **more)
    assert status == 400
    assert body["error"]["param"] == next(iter(more))
    assert not edge.agents.turns


async def test_an_early_failure_keeps_its_status_and_a_late_one_is_said_in_the_stream(
    edge: Edge, client: aiohttp.ClientSession
) -> None:
    edge.agents.error = UpstreamError("The vendor refused.", status=400)
    status, text, _ = await send(edge, client, "fail", stream=True)
    assert status == 400
    assert json.loads(text)["error"]["code"] == "upstream_error"
    status, text, _ = await send(edge, client, "fail late", stream=True)
    assert status == 200
    assert "[DONE]" not in text
    assert chunks(text)[-1]["error"]["code"] == "upstream_error"
    status, body, _ = await send(edge, client, "fail late")
    assert status == 400
    assert body["error"]["message"] == "The vendor refused."


async def test_a_quiet_stream_is_kept_alive(tmp_path: Path, client: aiohttp.ClientSession) -> None:
    async with running_edge(tmp_path, limits=Limits(keepalive_comment_seconds=0.06)) as edge:
        _, text, _ = await send(edge, client, "wait: 0.4", stream=True)
    assert text.count(": keep-alive") >= 2
    assert text.endswith("data: [DONE]\n\n")
