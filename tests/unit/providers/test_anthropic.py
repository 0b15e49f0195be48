"""What is particular to Anthropic's adapter; what every provider does is in tests/contract."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from carrel.clock import SystemClock
from carrel.declare.gateway import ProviderConfig
from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest, UpstreamError
from carrel.providers.anthropic import AnthropicProvider
from carrel.secrets import Secret
from carrel.wire.conversation import Finished, Message, ModelRequest, Text, Thinking, ToolCall, ToolResult, ToolSpec
from tests.fakes.patience import PATIENCE
from tests.fakes.vendor import FakeCall, FakeVendor, Script

ASK = ModelRequest("m", (Message("user", (Text("hi"),)),), tools=(ToolSpec("look", "", {}),), thinking="low")


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as vendor:
        yield vendor


@pytest.fixture
async def provider(vendor: FakeVendor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AnthropicProvider]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-somebody")
    config = ProviderConfig(kind="anthropic", base_url=vendor.url, first_byte_seconds=PATIENCE)
    provider = AnthropicProvider("claude", config, key=Secret("sk-ours"), clock=SystemClock())
    yield provider
    await provider.close()


async def ask(provider: AnthropicProvider, request: ModelRequest) -> Finished:
    finished = [event async for event in provider.stream(request)][-1]
    assert isinstance(finished, Finished)
    return finished


async def test_thinking_goes_back_with_its_proof(vendor: FakeVendor, provider: AnthropicProvider) -> None:
    script = Script(text="", thinking="hm", redacted="b3A=", calls=(FakeCall("look", '{"a": 1}', "t1"),))
    vendor.script("m", script, Script())
    first = await ask(provider, ASK)
    assert first.message.content == (
        Thinking("hm", signature=script.signature),
        Thinking("", redacted="b3A="),
        ToolCall("t1", "look", '{"a": 1}'),
    )
    assert first.usage == TokenCounts(input=100, output=13, reasoning=7)
    back = Message("user", (ToolResult("t1", "r"),))
    await ask(provider, replace(ASK, messages=(*ASK.messages, first.message, back)))
    assert vendor.last.body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": script.signature},
        {"type": "redacted_thinking", "data": "b3A="},
        {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
    ]
    assert vendor.last.body["thinking"]["type"] == "adaptive"


async def test_the_key_goes_where_new_and_old_servers_look(vendor: FakeVendor, provider: AnthropicProvider) -> None:
    await ask(provider, ASK)
    assert vendor.last.headers["authorization"] == "Bearer sk-ours"
    assert vendor.last.headers["x-api-key"] == "sk-ours"
    assert "somebody" not in repr(vendor.last.headers)


async def test_what_cannot_be_said_is_refused_before_anything_is_sent(
    vendor: FakeVendor, provider: AnthropicProvider
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await ask(provider, replace(ASK, temperature=1.7))
    assert caught.value.param == "temperature"
    assert vendor.received == []


async def test_overload_is_told_with_its_status(vendor: FakeVendor) -> None:
    config = ProviderConfig(kind="anthropic", base_url=vendor.url, max_retries=0)
    provider = AnthropicProvider("claude", config, key=None, clock=SystemClock())
    vendor.script("m", Script(status=529, error="Overloaded", headers={"Retry-After": "4"}))
    with pytest.raises(UpstreamError, match="Overloaded") as caught:
        await ask(provider, ASK)
    assert (caught.value.status, caught.value.retryable, caught.value.retry_after) == (529, True, 4.0)
    await provider.close()
