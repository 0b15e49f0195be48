"""Messages as callers write them: to another vendor and back nothing is lost, and what cannot go is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InvalidRequest
from carrel.wire.anthropic_messages import request_body
from carrel.wire.anthropic_request import parse
from carrel.wire.conversation import Image, Message, ModelRequest, Text, Thinking, ToolCall, ToolResult
from tests.unit.wire.rounds import requests

HI: dict[str, Any] = {"role": "user", "content": "hi"}


def to_model(**fields: Any) -> ModelRequest:
    body = {"model": "m", "max_tokens": 100, "messages": [HI], **fields}
    return parse(json.dumps(body).encode()).to_model(model="m", max_output=4096)


@given(requests())
def test_what_anthropics_vendor_would_be_sent_is_read_back_whole(request: ModelRequest) -> None:
    body = json.dumps(request_body(request)).encode()
    assert parse(body).to_model(model="m", max_output=4096) == request


def test_a_conversation_with_everything() -> None:
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    request = to_model(
        system=[{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        messages=[
            {"role": "user", "content": [
                {"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}}, png,
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "proof"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c", "is_error": True,
                 "content": [{"type": "text", "text": "no"}, png]},
            ]},
            {"role": "user", "content": "and?"},
        ],
    )  # fmt: skip
    image = Image("image/png", "aGk=")
    assert request.system == "be brief"
    assert request.messages == (
        Message("user", (Text("look"), image)),
        Message("assistant", (Thinking("hm", "proof"), Thinking("", redacted="x"), ToolCall("c", "look", '{"a": 1}'))),
        Message("user", (ToolResult("c", "no", is_error=True, images=(image,)), Text("and?"))),
    )


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, "off"), ({"thinking": {"type": "disabled"}}, "off"), ({"thinking": {"type": "adaptive"}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 50_000}}, "high"),
    ],
)  # fmt: skip
def test_thinking_as_a_level(fields: dict[str, Any], level: str) -> None:
    assert to_model(**fields).thinking == level


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"top_k": 5}, "top_k"), ({"container": "c"}, "container"), ({"mcp_servers": [{"name": "x"}]}, "mcp_servers"),
        ({"service_tier": "priority"}, "service_tier"), ({"thinking": {"type": "odd"}}, "thinking"),
        ({"unheard_of": 1}, "unheard_of"), ({"max_tokens": 5000}, "max_tokens"),
        ({"output_config": {"effort": "odd"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "odd"}}}, "output_config.format"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
        ({"tools": [{"type": "web_search_20250305", "name": "w", "input_schema": {}}]}, "tools[0].type"),
        ({"tools": [{"name": "w", "input_schema": {}, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"messages": [HI, {"role": "assistant", "content": "I"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "citations": [1]}]}]},
         "messages[0].content[0].citations"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
         "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]}]},
         "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": []}]}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"system": [{"type": "image"}]}, "system[0]"), ({"temperature": 1.5}, "temperature"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_model(**fields)
    assert refused.value.param == param


def test_hints_and_what_says_nothing_may_stay() -> None:
    to_model(metadata={"user_id": "u"}, service_tier="auto", cache_control={"type": "ephemeral"}, container=None)


def test_an_agent_takes_messages_and_limits_and_whom_they_are_for() -> None:
    body = {"model": "agent:main", "max_tokens": 9, "messages": [HI], "metadata": {"user_id": "alice"}, "system": "s"}
    taken = parse(json.dumps(body).encode()).to_agent()
    assert (taken.messages, taken.system, taken.max_tokens, taken.user) == (
        (Message("user", (Text("hi"),)),), "s", 9, "alice",
    )  # fmt: skip
    for more in ({"tools": [{"name": "t", "input_schema": {}}]}, {"stop_sequences": ["x"]}, {"top_k": 1},
                 {"thinking": {"type": "adaptive"}}, {"tool_choice": {"type": "any"}}):  # fmt: skip
        with pytest.raises(InvalidRequest) as refused:
            parse(json.dumps(body | more).encode()).to_agent()
        assert refused.value.param == next(iter(more))


@given(st.one_of(st.binary(max_size=40), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        st.sampled_from(["model", "messages", "content", "role", "type", "text", "source", "tools", "max_tokens"]),
        inner, max_size=4)), max_leaves=12).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    try:
        parse(body).to_model(model="m", max_output=100)
    except InvalidRequest:
        return
