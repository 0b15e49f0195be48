"""The official OpenAI client against the edge on a real socket, through every answer it knows how to read."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from carrel.errors import QuotaExceeded, UpstreamError, UpstreamTimeout
from tests.fakes.edge import Edge, running_edge, token_of
from tests.fakes.patience import PATIENCE, eventually, soon


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path) as running:
        yield running


@pytest.fixture
async def client(edge: Edge) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{edge.url}/v1", api_key=token_of("acme"), max_retries=0, timeout=PATIENCE
    ) as made:
        yield made


async def test_an_agent_answers(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="agent:main", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "You said: hello"
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12
    assert answer._request_id is not None


async def test_an_agent_streams(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="agent:main",
        messages=[{"role": "user", "content": "wait: 0.01"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces = [piece async for piece in stream]
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == "You said: wait: 0.01"
    assert [p.choices[0].finish_reason for p in pieces if p.choices][-1] == "stop"
    assert pieces[-1].usage is not None
    assert all(p.choices[0].delta.tool_calls is None for p in pieces if p.choices)


async def test_a_stream_without_usage_has_none(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="agent:main", messages=[{"role": "user", "content": "hello"}], stream=True
    )
    assert not any([piece.usage async for piece in stream])


async def test_the_session_goes_by_header_and_user(client: AsyncOpenAI, edge: Edge) -> None:
    raw = client.chat.completions.with_raw_response
    said = [{"role": "user", "content": "hello"}]
    one = await raw.create(model="agent:main", messages=said, extra_headers={"X-Carrel-Session": "mine"})  # type: ignore[arg-type] # a plain dict
    two = await raw.create(model="agent:main", messages=said, user="alice")  # type: ignore[arg-type] # a plain dict
    three = await raw.create(model="agent:main", messages=said, user="alice")  # type: ignore[arg-type] # a plain dict
    assert one.headers["x-carrel-session"] == "mine"
    assert two.headers["x-carrel-session"] == three.headers["x-carrel-session"] != "mine"


async def test_a_translated_model_answers_streams_and_calls_the_callers_tools(client: AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert whole.choices[0].message.content
    tool = {"type": "function", "function": {"name": "shell", "parameters": {"type": "object", "properties": {}}}}
    called = await client.chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "run: date"}], tools=[tool]  # type: ignore[list-item] # a plain dict
    )  # fmt: skip
    assert called.choices[0].finish_reason == "tool_calls"
    assert called.choices[0].message.tool_calls is not None
    async with client.chat.completions.stream(
        model="demo", messages=[{"role": "user", "content": "run: date"}], tools=[tool]  # type: ignore[list-item] # a plain dict
    ) as stream:  # fmt: skip
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert "date" in final.choices[0].message.tool_calls[0].function.arguments


async def test_models(client: AsyncOpenAI) -> None:
    assert [m.id async for m in client.models.list()] == ["agent:main", "demo", "vendor-large", "claude-large"]
    assert (await client.models.retrieve("agent:main")).id == "agent:main"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-nope")


async def test_errors_are_the_clients_own_types(client: AsyncOpenAI, edge: Edge) -> None:
    said = [{"role": "user", "content": "fail"}]
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="tk_acme_" + "0" * 32).models.list()
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model="gpt-nope", messages=said)  # type: ignore[arg-type] # a plain dict
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="agent:main", messages=said, n=2)  # type: ignore[arg-type] # a plain dict
    assert bad.value.param == "n"
    edge.agents.error = UpstreamTimeout("The vendor is silent.")
    with pytest.raises(openai.InternalServerError) as late:
        await client.chat.completions.create(model="agent:main", messages=said)  # type: ignore[arg-type] # a plain dict
    assert late.value.status_code == 504
    edge.tokens.add(token_of("acme", "6"), "acme", scopes=("rpc",))
    with pytest.raises(openai.PermissionDeniedError):
        await client.with_options(api_key=token_of("acme", "6")).models.list()


async def test_a_quota_is_a_rate_limit_with_its_reset(client: AsyncOpenAI, edge: Edge) -> None:
    edge.meter.refusal = QuotaExceeded(
        "No tokens are left today.", quota="tokens_per_day", retry_after=3600, reset_at=edge.services.clock.now()
    )
    retrying = client.with_options(max_retries=3)
    with pytest.raises(openai.RateLimitError) as limited:
        await soon(retrying.chat.completions.create(model="agent:main", messages=[{"role": "user", "content": "x"}]))
    assert limited.value.response.headers["retry-after"] == "3600"
    assert isinstance(limited.value.body, dict)
    assert "reset_at" in limited.value.body
    assert edge.meter.admitted == 1


async def test_an_error_in_a_stream_is_raised(client: AsyncOpenAI, edge: Edge) -> None:
    edge.agents.error = UpstreamError("The vendor broke off.")
    stream = await client.chat.completions.create(
        model="agent:main", messages=[{"role": "user", "content": "fail late"}], stream=True
    )
    with pytest.raises(openai.APIError, match="broke off"):
        _ = [piece async for piece in stream]


async def test_closing_a_stream_cancels_the_turn(client: AsyncOpenAI, edge: Edge) -> None:
    stream = await client.chat.completions.create(
        model="agent:main", messages=[{"role": "user", "content": "wait: 3600"}], stream=True
    )
    await stream.close()
    await eventually(lambda: edge.agents.cancelled)
    assert edge.agents.cancelled == 1
