"""Anthropic's dialect: caching, thinking, tools, and a stream's events in whatever order they come."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest, UpstreamError
from carrel.wire.anthropic_messages import EventReader, request_body, tool_input
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

CACHE = {"type": "ephemeral"}
TOOL = ToolSpec("look", "d", {"properties": {}})
HI = Message("user", (Text("hi"),))
ASK = ModelRequest("claude-opus-5", (HI,), system="s", tools=(TOOL,), max_tokens=8192)
LOOP = (HI, Message("assistant", (ToolCall("c", "look", "{}"),)), Message("user", (ToolResult("c", "r"),)))


def test_the_body_with_its_cache_breakpoints() -> None:
    assert request_body(replace(ASK, temperature=0.5, top_p=0.9, stop=("X",), extra={"service_tier": "auto"})) == {
        "model": "claude-opus-5",
        "max_tokens": 8192,
        "stream": True,
        "system": [{"type": "text", "text": "s", "cache_control": CACHE}],
        "tools": [
            {
                "name": "look",
                "description": "d",
                "input_schema": {"type": "object", "properties": {}},
                "cache_control": CACHE,
            }
        ],
        "tool_choice": {"type": "auto"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": CACHE}]}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["X"],
        "service_tier": "auto",
    }


def test_four_breakpoints_at_most_however_long_it_is() -> None:
    long = tuple(Message("assistant" if n % 2 else "user", (Text(f"t{n}"),)) for n in range(9))
    body = request_body(replace(ASK, messages=long, tools=(TOOL, replace(TOOL, name="b"))))
    assert str(body).count("cache_control") == 4
    marked = [n for n, m in enumerate(body["messages"]) if "cache_control" in m["content"][-1]]
    assert marked == [6, 8]


def test_blocks_as_this_api_takes_them() -> None:
    said = Message(
        "assistant",
        (
            Thinking("t", signature="proof"),
            Thinking("", redacted="opaque"),
            Thinking("not proven"),
            Thinking("other vendor", signature="field:reasoning"),
            Text(" "),
            ToolCall("c1", "look", '{"a": 1}'),
            ToolCall("c2", "look", "{bad"),
        ),
    )
    back = Message("user", (Text("and"), ToolResult("c1", "r"), ToolResult("c2", "no", is_error=True)))
    picture = Message("user", (Image("image/png", "aGk="), Image(url="https://example.com/a.png")))
    _, assistant, results, pictures = request_body(replace(ASK, messages=(HI, said, back, picture)))["messages"]
    assert assistant["content"] == [
        {"type": "thinking", "thinking": "t", "signature": "proof"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {"a": 1}},
        {"type": "tool_use", "id": "c2", "name": "look", "input": {"invalid_arguments": "{bad"}},
    ]
    assert [part["type"] for part in results["content"]] == ["tool_result", "tool_result", "text"]
    assert results["content"][1]["is_error"] is True
    assert pictures["content"][0]["source"] == {"type": "base64", "media_type": "image/png", "data": "aGk="}
    assert pictures["content"][1]["source"] == {"type": "url", "url": "https://example.com/a.png"}


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        ("auto", True, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("look", True, {"type": "tool", "name": "look"}),
    ],
)
def test_tool_choice(choice: str, parallel: bool, sent: dict[str, Any]) -> None:
    assert request_body(replace(ASK, tool_choice=choice, parallel_tool_calls=parallel))["tool_choice"] == sent


def test_thinking_by_effort_and_by_budget() -> None:
    body = request_body(replace(ASK, thinking="medium"))
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert body["output_config"] == {"effort": "medium"}
    for model in (
        "claude-sonnet-4-5",
        "claude-haiku-4-5-20251001",
        "claude-opus-4-20250514",
        "claude-3-7-sonnet-latest",
    ):
        old = replace(ASK, model=model, thinking="high", max_tokens=60_000)
        assert request_body(old)["thinking"] == {"type": "enabled", "budget_tokens": 24_576}
        assert request_body(replace(old, max_tokens=4096))["thinking"]["budget_tokens"] == 2048
        assert "thinking" not in request_body(replace(old, max_tokens=1500))
    assert request_body(replace(ASK, model="claude-opus-4-6", thinking="low"))["thinking"]["type"] == "adaptive"
    assert "thinking" not in request_body(ASK)


def test_a_budget_is_left_out_in_a_loop_that_began_without_thinking() -> None:
    old = replace(ASK, model="claude-sonnet-4-5", thinking="low", messages=LOOP)
    assert "thinking" not in request_body(old)
    begun = Message("assistant", (Thinking("t", signature="proof"), *LOOP[1].content))
    assert "thinking" in request_body(replace(old, messages=(HI, begun, LOOP[2])))
    assert "thinking" in request_body(replace(old, messages=(*LOOP, Message("assistant", (Text("x"),)), HI)))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 1.5}, "temperature"),
        ({"temperature": 0.5, "thinking": "low"}, "temperature"),
        ({"tool_choice": "required", "thinking": "low"}, "tool_choice"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        request_body(replace(ASK, **fields))
    assert caught.value.param == param


def read(*records: dict[str, Any], done: bool = True) -> tuple[list[ProviderEvent], Finished]:
    reader = EventReader()
    events = [event for record in records for event in reader.read(record)]
    return events, reader.finish(done=done)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 5, "output_tokens": 1}}}


def stopped(reason: str, **usage: int | None) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def test_a_whole_stream() -> None:
    events, finished = read(
        START,
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "pro"},
            {"type": "signature_delta", "signature": "of"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "opaque"}),
        *block(
            2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}, {"type": "text_delta", "text": "b"}
        ),
        *block(
            3,
            {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
            {"type": "input_json_delta", "partial_json": ""},
            {"type": "input_json_delta", "partial_json": '{"a"'},
            {"type": "input_json_delta", "partial_json": ": 1}"},
        ),
        *block(4, {"type": "tool_use", "id": "t2", "name": "look", "input": {"b": 2}}),
        *block(5, {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}),
        stopped("tool_use", output_tokens=9, input_tokens=None),
        {"type": "message_stop"},
    )
    assert events == [
        ThinkingDelta("hm"), ThinkingProof("proof"), ThinkingProof(redacted="opaque"), TextDelta("a"), TextDelta("b"),
        ToolDelta("t1", "look", ""), ToolDelta("t1", "look", '{"a"'), ToolDelta("t1", "look", ": 1}"),
        ToolDelta("t2", "look", ""), ToolDelta("t2", "look", '{"b": 2}'),
    ]  # fmt: skip
    assert finished == Finished(
        Message(
            "assistant",
            (
                Thinking("hm", signature="proof"),
                Thinking("", redacted="opaque"),
                Text("ab"),
                ToolCall("t1", "look", '{"a": 1}'),
                ToolCall("t2", "look", '{"b": 2}'),
            ),
        ),
        "tool_calls",
        TokenCounts(input=5, output=9),
        "msg_1",
    )


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("pause_turn", "end"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("refusal", "refusal"),
        ("something_new", "end"),
    ],
)
def test_stop_reasons(reason: str, stop: str) -> None:
    assert read(START, stopped(reason), done=False)[1].stop == stop


def test_no_end_is_a_cut() -> None:
    with pytest.raises(UpstreamError, match="broke off"):
        read(START, *block(0, {"type": "text", "text": "x"}), done=False)


def test_a_piece_of_no_block_is_a_cut() -> None:
    with pytest.raises(UpstreamError):
        read({"type": "content_block_delta", "index": 4, "delta": {"type": "text_delta", "text": "x"}})


@pytest.mark.parametrize(
    ("kind", "status", "retryable"),
    [("overloaded_error", 529, True), ("rate_limit_error", 429, True), ("invalid_request_error", None, False)],
)
def test_errors_in_the_stream(kind: str, status: int | None, retryable: bool) -> None:
    reader = EventReader()
    reader.read({"type": "ping"})
    with pytest.raises(UpstreamError, match="m") as caught:
        reader.read({"type": "error", "error": {"type": kind, "message": "m"}})
    assert (caught.value.status, caught.value.retryable, reader.begun) == (status, retryable, False)


KINDS = ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop", "new", None]
VALUE = (
    st.none()
    | st.integers(-1, 2)
    | st.text(max_size=2)
    | st.dictionaries(
        st.sampled_from(["type", "text", "id", "usage", "input_tokens", "stop_reason"]),
        st.none() | st.integers(0, 2) | st.sampled_from(["text", "tool_use", "thinking"]),
    )
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(KINDS)},
            optional={"index": VALUE, "message": VALUE, "content_block": VALUE, "delta": VALUE, "usage": VALUE},
        ),
        max_size=6,
    )
)
def test_no_json_breaks_the_reader(records: list[dict[str, Any]]) -> None:
    _, finished = read(*records)
    assert finished.message.role == "assistant"


def test_a_block_that_begins_with_nothing_said_is_one() -> None:
    def block(index: int, kind: str, **deltas: str) -> list[dict[str, Any]]:
        begun = {"type": kind, "text": None, "thinking": None, "signature": None}
        pieces = [{"type": f"{name}_delta", name: text} for name, text in deltas.items()]
        return [
            {"type": "content_block_start", "index": index, "content_block": begun},
            *({"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces),
            {"type": "content_block_stop", "index": index},
        ]

    _, finished = read(*block(0, "thinking", thinking="hm", signature="s"), *block(1, "text", text="hi"))
    assert finished.message.content == (Thinking("hm", "s"), Text("hi"))


def test_arguments_that_are_nested_too_deeply_are_shown_as_text() -> None:
    deep = '{"a":' * 100_000 + "1" + "}" * 100_000
    assert tool_input(deep) == {"invalid_arguments": deep}


def test_the_tier_is_told_once() -> None:
    reader = EventReader()
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "service_tier": "priority"}}}
    assert reader.read(start) == [Served("priority")]
    assert reader.read({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}}) == []
    again = {"type": "message_delta", "delta": {}, "usage": {"service_tier": "standard"}}
    assert reader.read(again) == [Served("standard")]
