"""The fake vendor against the vendors' own SDKs: what they cannot parse is no stand-in for a vendor."""

import json
from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.fakes.vendor import FakeCall, FakeVendor, Script

HI = "Hello from the fake vendor."
CALL = FakeCall("shell", '{"command": "echo hi"}', "call_9")


@pytest.fixture
async def vendor() -> AsyncIterator[FakeVendor]:
    async with FakeVendor() as vendor:
        yield vendor


@pytest.fixture
async def chat(vendor: FakeVendor) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        api_key="k", base_url=vendor.openai_url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
async def claude(vendor: FakeVendor) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        api_key="k", base_url=vendor.url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


async def test_openai_whole_answer_with_choices_and_log_probabilities(
    chat: openai.AsyncOpenAI, vendor: FakeVendor
) -> None:
    answer = await chat.chat.completions.create(
        model="fake-ok", messages=[{"role": "user", "content": "hi"}], n=2, logprobs=True, seed=4
    )
    assert [choice.message.content for choice in answer.choices] == [HI, HI]
    assert answer.choices[0].logprobs is not None
    assert answer.usage is not None
    assert answer.usage.total_tokens == 120
    assert vendor.last.body["seed"] == 4
    assert vendor.last.headers["authorization"] == "Bearer k"


async def test_openai_stream_with_tools_and_usage(chat: openai.AsyncOpenAI, vendor: FakeVendor) -> None:
    vendor.script("m", Script(text="Look:", calls=(CALL, FakeCall("file_read", '{"path": "a"}'))))
    chunks: list[ChatCompletionChunk] = []
    stream = await chat.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}], stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        chunks.append(chunk)  # noqa: PERF401 - the stream's own iteration is under test
    arguments = ""
    for chunk in chunks:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                if call.index == 0 and call.function is not None:
                    arguments += call.function.arguments or ""
    assert json.loads(arguments) == {"command": "echo hi"}
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason == "tool_calls"


async def test_openai_errors_and_models(chat: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.RateLimitError):
        await chat.chat.completions.create(model="fake-limited", messages=[{"role": "user", "content": "hi"}])
    answer = await chat.chat.completions.create(model="fake-limited", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices[0].message.content == HI
    with pytest.raises(openai.APIConnectionError):
        await chat.chat.completions.create(model="fake-dropped-always", messages=[{"role": "user", "content": "hi"}])
    assert "fake-ok" in {model.id async for model in chat.models.list()}


@pytest.mark.parametrize("model", ["fake-cut", "fake-malformed"])
async def test_openai_broken_streams_break_the_sdk_too(chat: openai.AsyncOpenAI, model: str) -> None:
    stream = await chat.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], stream=True)
    with pytest.raises((openai.APIError, ValueError)):
        async for _ in stream:
            pass


async def test_anthropic_whole_answer(claude: anthropic.AsyncAnthropic, vendor: FakeVendor) -> None:
    vendor.script("m", Script(thinking="Hm.", redacted="b3BhcXVl", calls=(CALL,)))
    answer = await claude.messages.create(model="m", max_tokens=64, messages=[{"role": "user", "content": "hi"}])
    assert [block.type for block in answer.content] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert vendor.last.headers["authorization"] == "Bearer k"


async def test_anthropic_stream(claude: anthropic.AsyncAnthropic, vendor: FakeVendor) -> None:
    vendor.script("m", Script(thinking="Hm, let me see.", calls=(CALL,), usage={"prompt": 100, "cached": 60}))
    async with claude.messages.stream(model="m", max_tokens=64, messages=[{"role": "user", "content": "hi"}]) as stream:
        message = await stream.get_final_message()
    thinking, text, call = message.content
    assert thinking.type == "thinking"
    assert thinking.signature == Script().signature
    assert text.type == "text"
    assert text.text == HI
    assert call.type == "tool_use"
    assert call.input == {"command": "echo hi"}
    assert message.usage.cache_read_input_tokens == 60


async def test_anthropic_errors(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        await claude.messages.create(model="fake-refused", max_tokens=64, messages=[{"role": "user", "content": "hi"}])
    tokens = await claude.messages.count_tokens(model="fake-ok", messages=[{"role": "user", "content": "hi"}])
    assert tokens.input_tokens > 0
