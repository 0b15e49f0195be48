"""Every method of both vendors' SDKs for what is served here: each works, or is refused in words that say why.

The SDKs are looked through, so that a method that a newer one brings is missed by nobody.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from anthropic._resource import AsyncAPIResource as AnthropicResource
from openai import AsyncOpenAI
from openai._resource import AsyncAPIResource as OpenAIResource
from pydantic import BaseModel

from tests.fakes.vendor import Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

ASK: Any = [{"role": "user", "content": "hello"}]
OPENAI = ("chat.completions", "responses", "embeddings", "models", "completions", "moderations", "batches",
          "conversations")  # fmt: skip
ANTHROPIC = ("messages", "models")


class City(BaseModel):
    """What an answer is to be parsed as."""

    name: str


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        made.vendor.script("city", Script(text='{"name": "Rome"}'))
        made.vendor.script("endless", Script(text="word " * 10_000, delay=0.02))
        for kind in ("gpt", "claude"):
            for script in ("ok", "city", "endless"):
                made.model(f"{kind}-{script}")
        yield made


def methods(resource: object, base: type, prefix: str) -> Iterator[str]:
    """The names of what may be called on ``resource`` and those below it."""
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        value = getattr(resource, name)
        if isinstance(value, base):
            yield from methods(value, base, f"{prefix}.{name}")
        elif inspect.ismethod(value):
            yield f"{prefix}.{name}"


def found(client: object, base: type, names: tuple[str, ...]) -> set[str]:
    out: set[str] = set()
    for name in names:
        resource: Any = client
        for part in name.split("."):
            resource = getattr(resource, part)
        out |= set(methods(resource, base, name))
    return out


# --- OpenAI's ---


async def stored(c: AsyncOpenAI) -> str:
    return (await c.chat.completions.create(model="gpt-ok", messages=ASK, store=True)).id


async def answered(c: AsyncOpenAI) -> str:
    return (await c.responses.create(model="gpt-ok", input="hello")).id


async def chat_parse(c: AsyncOpenAI) -> None:
    parsed = await c.chat.completions.parse(model="gpt-city", messages=ASK, response_format=City)
    assert parsed.choices[0].message.parsed == City(name="Rome")
    other = await c.chat.completions.parse(model="claude-city", messages=ASK, response_format=City)
    assert other.choices[0].message.parsed == City(name="Rome")


async def chat_stream(c: AsyncOpenAI) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        async with c.chat.completions.stream(model=model, messages=ASK) as stream:
            await stream.until_done()
            assert (await stream.get_final_completion()).choices[0].message.content


async def chat_create(c: AsyncOpenAI) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        raw = await c.chat.completions.with_raw_response.create(model=model, messages=ASK)
        assert raw.headers["x-request-id"]
        assert raw.parse().choices[0].message.content


async def chat_list(c: AsyncOpenAI) -> None:
    made = await stored(c)
    assert [one.id async for one in c.chat.completions.list()] == [made]


async def responses_create(c: AsyncOpenAI) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        assert (await c.responses.create(model=model, input="hello")).output_text
        events = [event.type async for event in await c.responses.create(model=model, input="hello", stream=True)]
        assert (events[0], events[-1]) == ("response.created", "response.completed")


async def responses_stream(c: AsyncOpenAI) -> None:
    for model in ("gpt-ok", "claude-ok", "agent:main"):
        async with c.responses.stream(model=model, input="hello") as stream:
            await stream.until_done()
            assert (await stream.get_final_response()).output_text


async def responses_parse(c: AsyncOpenAI) -> None:
    for model in ("gpt-city", "claude-city"):
        parsed = await c.responses.parse(model=model, input="where?", text_format=City)
        assert parsed.output_parsed == City(name="Rome")


async def responses_cancel(c: AsyncOpenAI) -> None:
    made = await c.responses.create(model="gpt-endless", input="x", background=True, stream=True)
    first: Any = await anext(aiter(made))
    await made.close()
    assert (await c.responses.cancel(first.response.id)).status == "cancelled"


async def responses_items(c: AsyncOpenAI) -> None:
    items = [item async for item in c.responses.input_items.list(await answered(c))]
    assert len(items) == 1


async def responses_count(c: AsyncOpenAI) -> None:
    assert (await c.responses.input_tokens.count(model="gpt-ok", input="hello")).input_tokens


async def responses_compact(c: AsyncOpenAI) -> None:
    assert (await c.responses.compact(model="gpt-ok", input="hello")).output[-1].type == "compaction"


async def models_list(c: AsyncOpenAI) -> None:
    assert "agent:main" in [model.id async for model in c.models.list()]


async def batches_create(c: AsyncOpenAI) -> None:
    await c.batches.create(input_file_id="f", endpoint="/v1/responses", completion_window="24h")


Act = Callable[[Any], Awaitable[Any]]
SERVED: dict[str, Act] = {
    "chat.completions.create": chat_create, "chat.completions.parse": chat_parse,
    "chat.completions.stream": chat_stream, "chat.completions.list": chat_list,
    "responses.create": responses_create, "responses.stream": responses_stream, "responses.parse": responses_parse,
    "responses.cancel": responses_cancel, "responses.input_items.list": responses_items,
    "responses.input_tokens.count": responses_count, "responses.compact": responses_compact,
    "models.list": models_list,
}  # fmt: skip


async def of_stored(c: AsyncOpenAI, use: Act) -> None:
    await use(await stored(c))


async def of_answered(c: AsyncOpenAI, use: Act) -> None:
    await use(await answered(c))


async def messages_of(c: AsyncOpenAI, made: str) -> None:
    assert [message.content async for message in c.chat.completions.messages.list(made)] == ["hello"]


SERVED |= {
    "chat.completions.retrieve": lambda c: of_stored(c, c.chat.completions.retrieve),
    "chat.completions.update": lambda c: of_stored(
        c, lambda made: c.chat.completions.update(made, metadata={"a": "b"})),
    "chat.completions.delete": lambda c: of_stored(c, c.chat.completions.delete),
    "chat.completions.messages.list": lambda c: of_stored(c, lambda made: messages_of(c, made)),
    "responses.retrieve": lambda c: of_answered(c, c.responses.retrieve),
    "responses.delete": lambda c: of_answered(c, c.responses.delete),
    "embeddings.create": lambda c: c.embeddings.create(model="gpt-ok", input="hello"),
    "models.retrieve": lambda c: c.models.retrieve("agent:main"),
}  # fmt: skip
REFUSED: dict[str, tuple[Act, str]] = {
    "models.delete": (lambda c: c.models.delete("gpt-ok"), "takes GET"),
    "completions.create": (lambda c: c.completions.create(model="gpt-ok", prompt="x"), "/v1/chat/completions"),
    "moderations.create": (lambda c: c.moderations.create(input="x"), "/v1/moderations"),
    "batches.create": (batches_create, "by itself"), "batches.list": (lambda c: c.batches.list(), "by itself"),
    "batches.retrieve": (lambda c: c.batches.retrieve("b"), "by itself"),
    "batches.cancel": (lambda c: c.batches.cancel("b"), "by itself"),
    "conversations.create": (lambda c: c.conversations.create(), "previous_response_id"),
    "conversations.retrieve": (lambda c: c.conversations.retrieve("x"), "previous_response_id"),
    "conversations.update": (lambda c: c.conversations.update("x", metadata={}), "previous_response_id"),
    "conversations.delete": (lambda c: c.conversations.delete("x"), "previous_response_id"),
    "conversations.items.create": (lambda c: c.conversations.items.create("x", items=[]), "previous_response_id"),
    "conversations.items.list": (lambda c: c.conversations.items.list("x"), "previous_response_id"),
    "conversations.items.delete": (
        lambda c: c.conversations.items.delete("i", conversation_id="x"), "previous_response_id"),
    "conversations.items.retrieve": (
        lambda c: c.conversations.items.retrieve("i", conversation_id="x"), "previous_response_id"),
}  # fmt: skip
APART = {"responses.connect"}
"""What is no request but a WebSocket: see `tests/unit/http/test_absent.py`."""


async def test_all_of_openais_methods_are_known(rig: VendorEdge) -> None:
    assert found(rig.gpt, OpenAIResource, OPENAI) == {*SERVED, *REFUSED, *APART}


@pytest.mark.parametrize("name", SERVED)
async def test_openais_methods_work(rig: VendorEdge, name: str) -> None:
    await SERVED[name](rig.gpt)


@pytest.mark.parametrize("name", REFUSED)
async def test_openais_other_methods_are_refused_with_the_reason(rig: VendorEdge, name: str) -> None:
    act, says = REFUSED[name]
    with pytest.raises(openai.APIStatusError) as refused:
        await act(rig.gpt)
    assert refused.value.status_code in (404, 405)
    assert says in refused.value.message
    assert refused.value.code in ("not_found", "method_not_allowed")


# --- Anthropic's ---


async def message(c: AsyncAnthropic) -> None:
    for model in ("claude-ok", "gpt-ok", "agent:main"):
        assert (await c.messages.create(model=model, max_tokens=99, messages=ASK)).content


async def message_stream(c: AsyncAnthropic) -> None:
    for model in ("claude-ok", "gpt-ok", "agent:main"):
        async with c.messages.stream(model=model, max_tokens=99, messages=ASK) as stream:
            assert await stream.get_final_text()


async def message_parse(c: AsyncAnthropic) -> None:
    for model in ("claude-city", "gpt-city"):
        parsed = await c.messages.parse(model=model, max_tokens=99, messages=ASK, output_format=City)
        assert parsed.parsed_output == City(name="Rome")


async def claude_models(c: AsyncAnthropic) -> None:
    assert "agent:main" in [model.id async for model in c.models.list()]


MESSAGES: dict[str, Act] = {
    "messages.create": message, "messages.stream": message_stream, "messages.parse": message_parse,
    "messages.count_tokens": lambda c: c.messages.count_tokens(model="claude-ok", messages=ASK),
    "models.list": claude_models, "models.retrieve": lambda c: c.models.retrieve("agent:main"),
}  # fmt: skip
BATCHES: dict[str, Act] = {
    "messages.batches.create": lambda c: c.messages.batches.create(requests=[]),
    "messages.batches.list": lambda c: c.messages.batches.list(),
    "messages.batches.retrieve": lambda c: c.messages.batches.retrieve("b"),
    "messages.batches.cancel": lambda c: c.messages.batches.cancel("b"),
    "messages.batches.delete": lambda c: c.messages.batches.delete("b"),
    "messages.batches.results": lambda c: c.messages.batches.results("b"),
}


async def test_all_of_anthropics_methods_are_known(rig: VendorEdge) -> None:
    assert found(rig.claude, AnthropicResource, ANTHROPIC) == {*MESSAGES, *BATCHES}


@pytest.mark.parametrize("name", MESSAGES)
async def test_anthropics_methods_work(rig: VendorEdge, name: str) -> None:
    await MESSAGES[name](rig.claude)


@pytest.mark.parametrize("name", BATCHES)
async def test_batches_are_refused_with_the_reason(rig: VendorEdge, name: str) -> None:
    with pytest.raises(anthropic.NotFoundError, match="by itself"):
        await BATCHES[name](rig.claude)
