"""Items 2 and 4: the official OpenAI SDK against the whole gateway, demo provider, real tools, real sandbox."""

from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.token, max_retries=0, timeout=PATIENCE) as made:
        yield made


def test_the_agent_runs_a_tool_in_the_sandbox(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="agent:main", messages=[{"role": "user", "content": "run: id -u; pwd; ls /home 2>&1 | wc -l"}]
    )
    text = answer.choices[0].message.content or ""
    assert "/workspace" in text
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


def test_it_streams_in_small_pieces_with_usage_when_asked(client: OpenAI) -> None:
    pieces = list(
        client.chat.completions.create(
            model="agent:main",
            messages=[{"role": "user", "content": "what can you do?"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert sum(1 for p in pieces if p.choices and p.choices[0].delta.content) > 3
    assert pieces[-1].usage is not None
    assert not any(p.usage for p in pieces[:-1])


def test_a_session_is_named_and_continued(client: OpenAI) -> None:
    first = client.chat.completions.with_raw_response.create(
        model="agent:main", messages=[{"role": "user", "content": "write: note.txt\nfrom the first message"}]
    )
    session = first.headers["x-carrel-session"]
    second = client.chat.completions.with_raw_response.create(
        model="agent:main",
        messages=[{"role": "user", "content": "read: note.txt"}],
        extra_headers={"X-Carrel-Session": session},
    )
    assert second.headers["x-carrel-session"] == session
    assert "from the first message" in (second.parse().choices[0].message.content or "")


def test_user_chooses_the_session(client: OpenAI) -> None:
    names = {
        client.chat.completions.with_raw_response.create(
            model="agent:main", user="alice", messages=[{"role": "user", "content": "hello"}]
        ).headers["x-carrel-session"]
        for _ in range(2)
    }
    assert len(names) == 1


def test_a_models_own_name_passes_through(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content
    called = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "run: date"}],
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "shell",
                    "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
                },
            }
        ],
    )
    assert called.choices[0].finish_reason == "tool_calls"
    assert called.choices[0].message.tool_calls is not None


def test_models_are_listed(client: OpenAI) -> None:
    names = [m.id for m in client.models.list()]
    assert "agent:main" in names
    assert "demo" in names
    assert client.models.retrieve("agent:main").id == "agent:main"


def test_errors_have_the_sdks_own_types(client: OpenAI, gateway: GatewayProcess) -> None:
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="tk_demo_" + "0" * 32).models.list()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-nope", messages=[{"role": "user", "content": "x"}])
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="agent:nobody", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.BadRequestError):
        client.post("/chat/completions", body={"model": "agent:main", "messages": "no list"}, cast_to=object)
