"""Responses as callers write them, for another vendor or an agent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InvalidRequest
from carrel.wire.conversation import Finished, Message, ModelRequest, OutputSchema, Text, ToolSpec
from carrel.wire.responses_request import parse

SCHEMA: dict[str, Any] = {"type": "object"}


def to_model(**fields: Any) -> ModelRequest:
    body = {"model": "m", "input": "hi", **fields}
    return parse(json.dumps(body).encode()).to_model(model="up", max_output=4096)


def test_a_request_with_everything() -> None:
    request = to_model(
        instructions="be brief", max_output_tokens=100, temperature=0.5, top_p=0.9, parallel_tool_calls=False,
        input=[{"role": "developer", "content": "and kind"}, {"role": "user", "content": "hi"}],
        tools=[{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}, {"type": "web_search"}],
        tool_choice="auto", reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}},
        metadata={"a": "b"}, include=["reasoning.encrypted_content"], store=False, truncation="disabled",
    )  # fmt: skip
    assert request == ModelRequest(
        model="up", messages=(Message("user", (Text("hi"),)),), system="be brief\n\nand kind", max_tokens=100,
        temperature=0.5, top_p=0.9, parallel_tool_calls=False, tools=(ToolSpec("f", "", SCHEMA, strict=True),),
        thinking="low", output_schema=OutputSchema("a", SCHEMA),
    )  # fmt: skip
    assert to_model(tools=[{"type": "function", "name": "f"}], tool_choice={"type": "function", "name": "f"}
                    ).tool_choice == "f"  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": "c"}, "conversation"), ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"service_tier": "priority"}, "service_tier"), ({"max_tool_calls": 1}, "max_tool_calls"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]"), ({"unheard_of": 1}, "unheard_of"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "f", "odd": 1}]}, "tools[0].odd"),
        ({"tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"reasoning": {"effort": "odd"}}, "reasoning.effort"), ({"reasoning": {"odd": 1}}, "reasoning.odd"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format"),
        ({"max_output_tokens": 5000}, "max_output_tokens"), ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": []}, "input"), ({"input": 7}, "input"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_model(**fields)
    assert refused.value.param == param


def test_an_agent_takes_messages_and_limits() -> None:
    body: dict[str, Any] = {"model": "agent:main", "input": "hi", "instructions": "s", "user": "alice"}
    taken = parse(json.dumps(body).encode()).to_agent()
    assert (taken.messages, taken.system, taken.user) == ((Message("user", (Text("hi"),)),), "s", "alice")
    for more in ({"tools": [{"type": "function", "name": "f"}]}, {"reasoning": {"effort": "low"}},
                 {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
                 {"tool_choice": "required"}, {"top_p": 0.5}, {"conversation": "c"}):  # fmt: skip
        with pytest.raises(InvalidRequest) as refused:
            parse(json.dumps(body | more).encode()).to_agent()
        assert refused.value.param == next(iter(more))


def test_a_whole_response_repeats_what_was_asked() -> None:
    asked = parse(b'{"model":"m","input":"hi","instructions":"s","metadata":{"a":"b"},"temperature":0.5}')
    answer = asked.whole(Finished(Message("assistant", (Text("yes"),)), "length", None), id="1", created=5)
    assert (answer["id"], answer["instructions"], answer["metadata"], answer["temperature"]) == (
        "resp_1", "s", {"a": "b"}, 0.5,
    )  # fmt: skip
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["content"][0]["text"] == "yes"


@given(st.one_of(st.binary(max_size=40), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(
        st.sampled_from(["model", "input", "content", "role", "type", "text", "output", "tools", "summary", "call_id"]),
        inner, max_size=4)), max_leaves=12).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    try:
        parse(body).to_model(model="m", max_output=100)
    except InvalidRequest:
        return
