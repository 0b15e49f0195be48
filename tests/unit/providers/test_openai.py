"""What is particular to OpenAI-compatible servers; what every provider does is in tests/contract."""

import json
from collections.abc import AsyncIterator

import pytest

from carrel.clock import SystemClock
from carrel.declare.gateway import ProviderConfig
from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.providers.openai import OpenAIProvider, dialect_of
from carrel.secrets import Secret
from carrel.wire.conversation import Finished, Message, ModelRequest, Text, Thinking, ToolCall
from tests.fakes.patience import PATIENCE
from tests.fakes.vendor import FakeCall, FakeVendor, Script

CALL = FakeCall("look", '{"a": [1, 2]}', "call_1")


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as vendor:
        yield vendor


@pytest.fixture
async def provider(vendor: FakeVendor, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIProvider]:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    config = ProviderConfig(kind="openai", base_url=vendor.openai_url, first_byte_seconds=PATIENCE)
    provider = OpenAIProvider("local", config, key=None, clock=SystemClock())
    yield provider
    await provider.close()


async def ask(provider: OpenAIProvider, model: str) -> Finished:
    request = ModelRequest(model, (Message("user", (Text("hi"),)),), max_tokens=50)
    finished = [event async for event in provider.stream(request)][-1]
    assert isinstance(finished, Finished)
    return finished


def test_who_renamed_the_limit() -> None:
    for url in ("https://api.openai.com/v1", "https://x.openai.azure.com/openai/v1"):
        assert dialect_of(url).limit_field == "max_completion_tokens"
    for url in ("http://127.0.0.1:11434/v1", "https://api.mistral.ai/v1", "https://api.openai.com.evil.example/v1"):
        assert dialect_of(url).limit_field == "max_tokens"


@pytest.mark.parametrize("style", ["fragments", "whole", "no_index", "index_0", "object"])
async def test_tool_calls_in_every_style(vendor: FakeVendor, provider: OpenAIProvider, style: str) -> None:
    vendor.script("m", Script(text="", calls=(CALL, FakeCall("look", "{}", "call_2")), call_style=style))  # type: ignore[arg-type] # one of its literals
    calls = [b for b in (await ask(provider, "m")).message.content if isinstance(b, ToolCall)]
    assert [(c.id, c.name, json.loads(c.arguments)) for c in calls] == [
        ("call_1", "look", {"a": [1, 2]}),
        ("call_2", "look", {}),
    ]


@pytest.mark.parametrize("place", ["last", "finish", "choice", "x_groq"])
async def test_usage_in_every_place(vendor: FakeVendor, provider: OpenAIProvider, place: str) -> None:
    vendor.script("m", Script(usage_at=place))  # type: ignore[arg-type] # one of its literals
    assert (await ask(provider, "m")).usage == TokenCounts(input=100, output=20)


async def test_no_usage_is_none(provider: OpenAIProvider) -> None:
    assert (await ask(provider, "fake-usage-none")).usage is None


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_reasoning_in_both_fields(vendor: FakeVendor, provider: OpenAIProvider, field: str) -> None:
    vendor.script("m", Script(thinking="hm", reasoning_field=field))
    assert (await ask(provider, "m")).message.content[0] == Thinking("hm", signature=f"field:{field}")


async def test_a_server_that_does_not_stream(provider: OpenAIProvider) -> None:
    assert (await ask(provider, "fake-unstreamed")).usage == TokenCounts(input=100, output=20)


async def test_a_missing_finish_reason_with_done_is_an_end(vendor: FakeVendor, provider: OpenAIProvider) -> None:
    vendor.script("m", Script(finish=None))
    assert (await ask(provider, "m")).stop == "end"
    vendor.script("m", Script(finish=None, done=False, usage_at="none"))
    with pytest.raises(UpstreamError) as caught:
        await ask(provider, "m")
    assert caught.value.details["reason"] == "cut"


async def test_a_server_that_refuses_a_field_is_asked_without_it(vendor: FakeVendor, provider: OpenAIProvider) -> None:
    vendor.script("m", Script(refuses=("stream_options",)))
    await ask(provider, "m")
    assert "stream_options" not in vendor.last.body
    asked = len(vendor.received)
    await ask(provider, "m")
    assert len(vendor.received) == asked + 1


async def test_a_server_that_renamed_the_limit_is_asked_by_its_new_name(
    vendor: FakeVendor, provider: OpenAIProvider
) -> None:
    complaint = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    vendor.script("m", Script(status=400, error=complaint), Script())
    await ask(provider, "m")
    assert vendor.last.body["max_completion_tokens"] == 50
    assert "max_tokens" not in vendor.last.body


async def test_any_other_complaint_is_passed_on(vendor: FakeVendor, provider: OpenAIProvider) -> None:
    vendor.script("m", Script(status=400, error="Nonsense."))
    with pytest.raises(UpstreamError, match=r"Nonsense\.") as caught:
        await ask(provider, "m")
    assert caught.value.status == 400
    assert len(vendor.received) == 1


async def test_nothing_of_the_gateways_environment_goes_along(vendor: FakeVendor, provider: OpenAIProvider) -> None:
    await ask(provider, "fake-ok")
    assert "somebody" not in repr(vendor.last.headers)


async def test_the_key_is_sent_and_shown_nowhere(vendor: FakeVendor) -> None:
    config = ProviderConfig(kind="openai", base_url=vendor.openai_url, max_retries=0)
    provider = OpenAIProvider("p", config, key=Secret("hunter2-and-more"), clock=SystemClock())
    vendor.script("m", Script(status=400, error="Not for hunter2-and-more."))
    with pytest.raises(UpstreamError) as caught:
        await ask(provider, "m")
    assert vendor.last.headers["authorization"] == "Bearer hunter2-and-more"
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(provider) + repr(caught.value) + repr(caught.value.__cause__)
    await provider.close()
