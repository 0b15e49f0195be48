"""The vendors' own SDKs at every endpoint, with models of the other vendor: what is said comes through, both ways."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from carrel.declare.rate_card import TokenCounts
from tests.fakes.patience import eventually
from tests.fakes.vendor import FakeCall, Script
from tests.fakes.vendor_edge import VendorEdge, vendor_edge

HI = "Hello from the fake vendor."
ASK: Any = [{"role": "user", "content": "hello"}]
PNG = "iVBORw0KGgo="
LOOK: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
CALL = FakeCall("look", '{"a": 1}', "call_9")
USED = {"prompt": 100, "cached": 30, "cache_write": 20, "cache_write_1h": 5, "completion": 40, "reasoning": 7}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[VendorEdge]:
    async with vendor_edge(tmp_path) as made:
        yield made


# --- Messages of Anthropic's to a model of OpenAI's dialect ---


async def test_messages_by_an_openai_model_with_tools_images_thinking_and_usage(rig: VendorEdge) -> None:
    model = rig.model("gpt-all")
    rig.vendor.script("all", Script(text="Look:", thinking="hm", calls=(CALL,), usage=USED))
    tools: Any = [{"name": "look", "description": "d", "input_schema": LOOK, "cache_control": {"type": "ephemeral"}}]
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}]
    options: Any = {"thinking": {"type": "enabled", "budget_tokens": 2048}, "tool_choice": {"type": "any"}}
    answer = await rig.claude.messages.create(
        model=model, max_tokens=4000, messages=asked, tools=tools, system="be brief", stop_sequences=["END"], **options
    )
    sent = rig.vendor.last.body
    assert rig.vendor.last.path == "/v1/chat/completions"
    assert sent["messages"][0] == {"role": "system", "content": "be brief"}
    assert sent["messages"][1]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert (sent["tool_choice"], sent["reasoning_effort"], sent["stop"]) == ("required", "low", ["END"])
    assert sent["tools"][0]["function"] == {"name": "look", "description": "d", "parameters": LOOK}
    assert [block.type for block in answer.content] == ["thinking", "text", "tool_use"]
    assert answer.stop_reason == "tool_use"
    counts, outcome, estimated = rig.settled
    assert (counts, outcome, estimated) == (
        TokenCounts(input=70, cache_read=30, output=33, reasoning=7), "ok", False,
    )  # fmt: skip
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (70, 30, 40)

    result: Any = {"type": "tool_result", "tool_use_id": "call_9", "content": [{"type": "text", "text": "42"}, picture]}
    again: Any = [*asked, {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
                  {"role": "user", "content": [result]}]  # fmt: skip
    async with rig.claude.messages.stream(model=model, max_tokens=4000, messages=again, tools=tools) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert {"input_json", "thinking", "text"} <= set(kinds)
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert final.content[2].input == {"a": 1}  # type: ignore[union-attr]
    assert final.usage.output_tokens == 40
    sent = rig.vendor.last.body["messages"]
    assert sent[1]["reasoning_content"] == "hm", "a turn in progress has its reasoning sent back"
    assert sent[1]["tool_calls"][0]["id"] == "call_9"
    assert sent[2] == {"role": "tool", "tool_call_id": "call_9", "content": "42"}
    assert sent[3]["content"][1]["image_url"]["url"].endswith(PNG), "a result's picture follows it"
    assert rig.settled[0].total == 140


async def test_parsed_output_of_messages_by_an_openai_model(rig: VendorEdge) -> None:
    class Weather(BaseModel):
        degrees: int

    model = rig.model("gpt-json")
    rig.vendor.script("json", Script(text='{"degrees": 7}'))
    parsed = await rig.claude.messages.parse(model=model, max_tokens=100, messages=ASK, output_format=Weather)
    assert parsed.parsed_output == Weather(degrees=7)
    shape = rig.vendor.last.body["response_format"]
    assert shape["json_schema"]["schema"]["properties"]["degrees"]["type"] == "integer"


async def test_what_the_other_vendor_cannot_do_is_refused_and_not_sent(rig: VendorEdge) -> None:
    model = rig.model("gpt-ok")
    extra: Any = {"top_k": 5}
    with pytest.raises(anthropic.BadRequestError, match="top_k"):
        await rig.claude.messages.create(model=model, max_tokens=9, messages=ASK, extra_body=extra)
    search: Any = [{"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(anthropic.BadRequestError):
        await rig.claude.messages.create(model=model, max_tokens=9, messages=ASK, tools=search)
    other = rig.model("claude-ok")
    with pytest.raises(openai.BadRequestError) as refused:
        await rig.gpt.chat.completions.create(model=other, messages=ASK, seed=1)
    assert refused.value.param == "seed"
    with pytest.raises(openai.BadRequestError) as refused:
        await rig.gpt.responses.create(model=other, input="x", tools=[{"type": "code_interpreter", "container": "c"}])
    assert refused.value.param == "tools[0].type"
    with pytest.raises(openai.BadRequestError) as refused:
        await rig.gpt.embeddings.create(model=other, input="x")
    assert refused.value.param == "model"
    assert rig.vendor.received == []
    assert rig.edge.meter.reservations == []


# --- chat completions and responses to a model of Anthropic's ---


async def test_chat_by_an_anthropic_model_keeps_the_proof_of_its_thinking(rig: VendorEdge) -> None:
    model = rig.model("claude-all")
    rig.vendor.script("all", Script(text="Look:", thinking="hm", calls=(CALL,), usage=USED))
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": LOOK}}]
    first = await rig.gpt.chat.completions.create(model=model, messages=ASK, tools=tools, reasoning_effort="low")
    said = first.choices[0].message
    assert first.usage is not None
    assert first.usage.prompt_tokens_details is not None
    assert (first.usage.prompt_tokens, first.usage.prompt_tokens_details.cached_tokens) == (100, 30)
    assert rig.settled[0] == TokenCounts(
        input=50, cache_read=30, cache_write=20, output=33, reasoning=7, cache_write_1h=5
    )
    again: Any = [*ASK, said.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": "call_9", "content": "4"}]
    async with rig.gpt.chat.completions.stream(model=model, messages=again, tools=tools) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    sent = rig.vendor.last.body["messages"]
    assert sent[1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}
    assert sent[1]["content"][2] == {"type": "tool_use", "id": "call_9", "name": "look", "input": {"a": 1}}
    assert sent[2]["content"][0]["content"] == "4"
    assert {"content.delta", "content.done", "tool_calls.function.arguments.delta"} <= kinds
    call = final.choices[0].message.tool_calls
    assert call is not None
    assert (call[0].id, json.loads(call[0].function.arguments)) == ("call_9", {"a": 1})
    streamed: Any = final.choices[0].message.model_dump()
    assert streamed["reasoning_details"][0]["signature"] == "c2lnbmF0dXJl"


async def test_parsed_output_of_chat_by_an_anthropic_model(rig: VendorEdge) -> None:
    class Weather(BaseModel):
        degrees: int

    model = rig.model("claude-json")
    rig.vendor.script("json", Script(text='{"degrees": 7}'))
    parsed = await rig.gpt.chat.completions.parse(model=model, messages=ASK, response_format=Weather)
    assert parsed.choices[0].message.parsed == Weather(degrees=7)
    assert rig.vendor.last.body["output_config"]["format"]["type"] == "json_schema"
    answer = await rig.gpt.responses.parse(model=model, input="hello", text_format=Weather)
    assert answer.output_parsed == Weather(degrees=7)


async def test_responses_by_an_anthropic_model_with_tools_images_thinking_and_usage(rig: VendorEdge) -> None:
    model = rig.model("claude-all")
    rig.vendor.script("all", Script(text="Look:", thinking="hm", redacted="opaque", calls=(CALL,), usage=USED))
    tools: Any = [{"type": "function", "name": "look", "parameters": LOOK, "strict": False}]
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "what is it?"}, picture]}]
    async with rig.gpt.responses.stream(
        model=model, input=asked, tools=tools, instructions="be brief", reasoning={"effort": "low"}, store=False
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert {"response.reasoning_summary_text.delta", "response.function_call_arguments.delta"} <= set(kinds)
    assert [item.type for item in final.output] == ["reasoning", "reasoning", "message", "function_call"]
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens_details.reasoning_tokens) == (100, 7)
    assert (final.usage.input_tokens_details.cached_tokens, final.usage.input_tokens_details.cache_write_tokens) == (
        30, 20,
    )  # fmt: skip
    again: Any = [*asked, *[item.model_dump(exclude_none=True) for item in final.output],
                  {"type": "function_call_output", "call_id": "call_9", "output": [picture]}]  # fmt: skip
    answer = await rig.gpt.responses.create(model=model, input=again, tools=tools, store=False)
    sent = rig.vendor.last.body["messages"]
    assert sent[0]["content"][1]["source"]["data"] == PNG
    assert sent[1]["content"][0]["signature"] == "c2lnbmF0dXJl"
    assert sent[1]["content"][1] == {"type": "redacted_thinking", "data": "opaque"}
    assert sent[2]["content"][0]["content"][0]["source"]["data"] == PNG
    assert answer.output_text == "Look:"
    assert rig.settled[0].total == 140


# --- each in its own dialect, and with an agent ---


async def test_unknown_fields_reach_the_vendor_they_belong_to(rig: VendorEdge) -> None:
    extra: Any = {"future_field": {"a": [1]}}
    await rig.claude.messages.create(model=rig.model("claude-ok"), max_tokens=9, messages=ASK, extra_body=extra)
    assert rig.vendor.last.body["future_field"] == {"a": [1]}
    await rig.gpt.responses.create(model=rig.model("gpt-ok"), input="x", extra_body=extra)
    assert rig.vendor.last.body["future_field"] == {"a": [1]}
    await rig.gpt.embeddings.create(model="gpt-ok", input="x", extra_body=extra)
    assert rig.vendor.last.body["future_field"] == {"a": [1]}


async def test_an_agent_in_every_dialect_has_its_session_and_shows_no_tools(rig: VendorEdge) -> None:
    metadata: Any = {"user_id": "alice"}
    async with rig.claude.messages.stream(
        model="agent:main", max_tokens=100, messages=[{"role": "user", "content": "wait: 0.01"}], metadata=metadata
    ) as stream:
        assert await stream.get_final_text() == "You said: wait: 0.01"
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["text"]
    said = await rig.gpt.chat.completions.create(model="agent:main", messages=ASK, user="alice")
    assert said.choices[0].message.content == "You said: hello"
    answer = await rig.gpt.responses.create(model="agent:main", input="hello", user="alice", store=False)
    assert answer.output_text == "You said: hello"
    assert [item.type for item in answer.output] == ["message"]
    assert len({turn.session_id for turn in rig.edge.agents.turns}) == 1
    raw = await rig.claude.messages.with_raw_response.create(
        model="agent:main", max_tokens=9, messages=ASK, extra_headers={"X-Carrel-Session": "mine"}
    )
    assert raw.headers["X-Carrel-Session"] == "mine"


async def test_models_are_listed_and_shown_to_both(rig: VendorEdge) -> None:
    rig.model("gpt-ok")
    names = {model.id async for model in rig.gpt.models.list()}
    assert {"agent:main", "gpt-ok", "claude-large"} <= names
    assert {model.id async for model in rig.claude.models.list(limit=2)} == names, "in pages of two"
    assert (await rig.gpt.models.retrieve("gpt-ok")).id == "gpt-ok"
    assert (await rig.claude.models.retrieve("agent:main")).type == "model"


async def test_tokens_are_counted_by_the_vendor_or_estimated(rig: VendorEdge) -> None:
    counted = await rig.claude.messages.count_tokens(model=rig.model("claude-ok"), messages=ASK)
    assert rig.vendor.last.path == "/v1/messages/count_tokens"
    assert counted.input_tokens > 0
    raw = await rig.claude.messages.with_raw_response.count_tokens(model=rig.model("gpt-ok"), messages=ASK)
    assert raw.headers["X-Carrel-Estimated"] == "input_tokens"
    assert rig.vendor.last.path == "/v1/messages/count_tokens", "nobody was asked"


# --- whoever goes away ---


async def test_a_caller_that_goes_away_ends_the_call_upstream_in_every_dialect(rig: VendorEdge) -> None:
    rig.vendor.script("endless", Script(text="word " * 10_000, delay=0.02))
    gpt, claude = rig.model("gpt-endless"), rig.model("claude-endless")
    for model in (gpt, claude):
        async with await rig.gpt.chat.completions.create(model=model, messages=ASK, stream=True) as chat:
            await anext(aiter(chat))
        await gone(rig)
        async with await rig.gpt.responses.create(model=model, input="x", stream=True, store=False) as answer:
            await anext(aiter(answer))
        await gone(rig)
        async with await rig.claude.messages.create(model=model, max_tokens=99, messages=ASK, stream=True) as message:
            await anext(aiter(message))
        await gone(rig)


async def test_a_caller_that_goes_away_from_a_whole_answer_ends_it_too(rig: VendorEdge) -> None:
    rig.vendor.script("endless", Script(text="word " * 10_000, delay=0.02))
    gpt, claude = rig.model("gpt-endless"), rig.model("claude-endless")
    for whole in (
        partial(rig.gpt.chat.completions.create, model=claude, messages=ASK),
        partial(rig.gpt.responses.create, model=claude, input="x"),
        partial(rig.claude.messages.create, model=gpt, max_tokens=99, messages=ASK),
    ):
        before = len(rig.vendor.received)
        task = asyncio.ensure_future(whole())
        await eventually(partial(asked, rig, before + 1))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await gone(rig)


def asked(rig: VendorEdge, calls: int) -> bool:
    return len(rig.vendor.received) >= calls


async def gone(rig: VendorEdge) -> None:
    await eventually(rig.vendor.last.gone.is_set)
    await eventually(lambda: rig.edge.meter.reservations[-1].settled)
    assert rig.settled[1] == "cancelled"
