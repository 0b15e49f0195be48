"""The dialect of OpenAI-compatible servers: what is sent, and every way they have of answering."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.rate_card import TokenCounts
from carrel.errors import UpstreamError
from carrel.wire.conversation import (
    Finished,
    Image,
    Message,
    ModelRequest,
    ProviderEvent,
    Served,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ThinkingProof,
    ToolCall,
    ToolDelta,
    ToolResult,
    ToolSpec,
)
from carrel.wire.openai_upstream import ChunkReader, Dialect, request_body

ASK = ModelRequest(
    "m", (Message("user", (Text("hi"),)),), system="s", tools=(ToolSpec("look", "d", {"type": "object"}),)
)


def chunk(delta: dict[str, Any], finish: str | None = None, **top: Any) -> dict[str, Any]:
    return {"id": "c1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **top}


def read(*records: dict[str, Any], done: bool = True) -> tuple[list[ProviderEvent], Finished]:
    reader = ChunkReader()
    events = [event for record in records for event in reader.read(record)]
    return events, reader.finish(done=done)


def calls(*deltas: Any, finish: str | None = "tool_calls") -> list[ToolCall]:
    _, finished = read(*(chunk({"tool_calls": d}) for d in deltas), chunk({}, finish))
    return [b for b in finished.message.content if isinstance(b, ToolCall)]


def test_the_body() -> None:
    body = request_body(
        replace(ASK, max_tokens=9, thinking="low", temperature=0.5, top_p=0.9, stop=("X",), extra={"seed": 1}),
        Dialect(),
    )
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 9,
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
        ],
        "tool_choice": "auto",
        "reasoning_effort": "low",
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["X"],
        "seed": 1,
    }


def test_dialects_and_choices() -> None:
    body = request_body(
        replace(ASK, tool_choice="look", parallel_tool_calls=False), Dialect("max_completion_tokens", ask_usage=False)
    )
    assert "stream_options" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 4096
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False


def test_a_tool_loop_as_messages() -> None:
    old = Message("assistant", (Thinking("long ago", "field:reasoning_content"), Text("yes")))
    now = Message("assistant", (Thinking("now", "field:reasoning_content"), ToolCall("c1", "look", "{bad")))
    results = Message("user", (Text("and"), ToolResult("c1", "no", is_error=True), Image("image/png", "aGk=")))
    first = ASK.messages[0]
    sent = request_body(
        replace(ASK, messages=(first, old, first, now, Message("user", results.content[1:2]))), Dialect()
    )
    assert sent["messages"][2] == {"role": "assistant", "content": "yes"}
    assert sent["messages"][4] == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "now",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{bad"}}],
    }
    assert sent["messages"][5] == {"role": "tool", "tool_call_id": "c1", "content": "Error: no"}
    mixed = request_body(replace(ASK, messages=(first, now, results)), Dialect())["messages"]
    assert [m["role"] for m in mixed[2:]] == ["assistant", "tool", "user"]
    assert mixed[4]["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    foreign = Message("assistant", (Thinking("t", "anthropic-proof"), Text("x")))
    assert "reasoning" not in json.dumps(request_body(replace(ASK, messages=(first, foreign)), Dialect()))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_in_its_fields(field: str) -> None:
    events, finished = read(chunk({field: "h"}), chunk({field: "m"}), chunk({"content": "x"}), chunk({}, "stop"))
    assert events == [ThinkingDelta("h"), ThinkingDelta("m"), ThinkingProof(f"field:{field}"), TextDelta("x")]
    assert finished.message.content == (Thinking("hm", signature=f"field:{field}"), Text("x"))


def test_content_in_parts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "x"}]
    events, finished = read(chunk({"content": parts}), chunk({}, "stop"))
    assert events == [ThinkingDelta("hm"), ThinkingProof(), TextDelta("x")]
    assert finished.message.content == (Thinking("hm"), Text("x"))


def test_calls_in_fragments_whole_and_without_index() -> None:
    def function(name: str, arguments: object) -> dict[str, Any]:
        return {"name": name, "arguments": arguments}

    a, b = ToolCall("a", "look", '{"x": 1}'), ToolCall("b", "look", "{}")
    fragments = [
        [{"index": 0, "id": "a", "function": function("look", "")}],
        [{"index": 0, "function": {"arguments": '{"x"'}}, {"index": 1, "id": "b", "function": function("look", "{}")}],
        [{"index": 0, "function": {"arguments": ": 1}"}}],
    ]
    assert calls(*fragments) == [a, b]
    whole = [{"id": "a", "function": function("look", '{"x": 1}')}, {"id": "b", "function": function("look", "{}")}]
    assert calls(whole) == [a, b]
    assert calls(*[[c] for c in whole]) == [a, b]
    assert calls(*[[{**c, "index": 0}] for c in whole]) == [a, b]
    assert calls([{"index": 0, "id": "a", "function": function("look", {"x": 1})}]) == [a]
    assert calls([{"id": "a", "function": function("look", "")}], [{"function": {"arguments": '{"x": 1}'}}]) == [a]


def test_calls_without_id_or_arguments_get_them() -> None:
    one, two = calls([{"index": 0, "function": {"name": "look"}}, {"index": 1, "function": {"name": "look"}}])
    assert one.id != two.id
    assert one.arguments == "{}"


@pytest.mark.parametrize("finish", ["tool_calls", "function_call", "stop", None])
def test_calls_make_the_stop_reason(finish: str | None) -> None:
    _, finished = read(chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x"}}]}), chunk({}, finish))
    assert finished.stop == "tool_calls"


@pytest.mark.parametrize(
    ("finish", "stop"), [("stop", "end"), ("length", "length"), ("content_filter", "refusal"), ("odd", "end")]
)
def test_stop_reasons(finish: str, stop: str) -> None:
    assert read(chunk({"content": "x"}), chunk({}, finish), done=False)[1].stop == stop


def test_a_refusal() -> None:
    events, finished = read(chunk({"refusal": "No."}), chunk({}, "stop"))
    assert events == [TextDelta("No.")]
    assert finished.stop == "refusal"


@pytest.mark.parametrize(
    "last",
    [
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        {"choices": [], "x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}},
        {"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 3, "completion_tokens": 2}}]},
    ],
)
def test_usage_wherever_it_is(last: dict[str, Any]) -> None:
    assert read(chunk({"content": "x"}, "stop"), last)[1].usage == TokenCounts(input=3, output=2)


def test_the_newest_usage_counts_and_none_is_none() -> None:
    grown = [chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 2)]
    assert read(*grown, chunk({}, "stop"))[1].usage == TokenCounts(input=3, output=2)
    assert read(chunk({"content": "x"}, "stop"))[1].usage is None


def test_an_answer_that_was_not_streamed() -> None:
    message = {"role": "assistant", "content": "x", "tool_calls": [{"id": "a", "function": {"name": "look"}}]}
    events, finished = read({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert events == [TextDelta("x"), ToolDelta("a", "look", "")]
    assert finished.message.content == (Text("x"), ToolCall("a", "look", "{}"))


def test_no_end_is_a_cut_and_done_is_an_end() -> None:
    with pytest.raises(UpstreamError, match="broke off"):
        read(chunk({"content": "x"}), done=False)
    assert read(chunk({"content": "x"}), done=True)[1].stop == "end"


def test_other_choices_are_not_mixed_in() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "other"}}]}
    assert read(other, chunk({"content": "x"}, "stop"))[1].message.content == (Text("x"),)


@pytest.mark.parametrize(
    ("record", "status", "retryable"),
    [
        ({"error": {"message": "m", "type": "server_error"}}, None, True),
        ({"error": {"message": "m", "code": 429}}, 429, True),
        ({"error": {"message": "m", "code": 400}}, 400, False),
        ({"error": "m"}, None, False),
        ({"object": "error", "message": "m", "code": 503}, 503, True),
    ],
)
def test_errors_in_the_stream(record: dict[str, Any], status: int | None, retryable: bool) -> None:
    reader = ChunkReader()
    with pytest.raises(UpstreamError, match="m") as caught:
        reader.read(record)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert not reader.begun


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "index", "content", "tool_calls", "function", "arguments", "name", "id", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(["choices", "id", "usage", "x_groq"]), JSON), max_size=4))
def test_no_json_breaks_the_reader(records: list[dict[str, Any]]) -> None:
    _, finished = read(*records)
    assert finished.message.role == "assistant"


def test_the_tier_is_said_beside_the_usage_or_before_it() -> None:
    reader = ChunkReader()
    reader.read(
        {"service_tier": "priority", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
    )
    reader.read({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    assert reader.finish(done=True).usage == TokenCounts(3, output=1, served="priority")


def test_the_tier_is_told_once_and_before_what_is_said() -> None:
    reader = ChunkReader()
    said = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    assert reader.read({"service_tier": "auto", **said}) == [TextDelta("hi")]
    assert reader.read({"service_tier": "priority", **said}) == [Served("priority"), TextDelta("hi")]
    assert reader.read({"service_tier": "priority", **said}) == [TextDelta("hi")]
    assert reader.read({"service_tier": "default", "choices": []}) == [Served("standard")]
