"""Callers' chat completion requests: parsed, translated, and refused by the field's name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import InvalidRequest
from carrel.wire.conversation import (
    Image,
    Message,
    ModelRequest,
    OutputSchema,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
)
from carrel.wire.openai_chat import ChatRequest, parse, to_agent_request, to_model_request
from carrel.wire.openai_upstream import Dialect, request_body
from tests.unit.wire.rounds import requests

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def request(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    return parse(json.dumps({"model": "m", "messages": messages or [USER], **fields}).encode())


def translated(*messages: dict[str, Any], **fields: Any) -> tuple[str, tuple[Message, ...]]:
    model_request = to_model_request(request(*messages, **fields), model="up", max_output=100)
    return model_request.system, model_request.messages


def test_what_is_not_known_is_kept() -> None:
    parsed = request(seed=3, frobnicate={"a": [1]}, stream=True, stream_options={"include_usage": True})
    assert parsed.model_extra == {"seed": 3, "frobnicate": {"a": [1]}}
    assert parsed.stream is True
    assert parsed.include_usage is True


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'"x"', None),
        (b'{"messages": []}', "model"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": 3, "messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m", "messages": [{"role": "boss", "content": "x"}]}', "messages[0].role"),
        (b'{"model": "m", "messages": [{"role": "user", "content": [{"text": "x"}]}]}', "messages[0].content[0].type"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 3}', "temperature"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}', "temperature"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}', "max_tokens"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
        (b'{"model": "m", "messages": "\xff"}', None),
    ],
)
def test_bad_bodies_name_the_field(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body)
    assert caught.value.param == param


@given(st.binary(max_size=100) | st.text(max_size=50).map(str.encode))
def test_any_body_is_parsed_or_refused(body: bytes) -> None:
    try:
        parse(body)
    except InvalidRequest as error:
        assert error.message  # noqa: PT017 - either outcome is right


def test_system_texts_are_joined_and_neighbours_merged() -> None:
    system, messages = translated(
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        USER,
        {"role": "user", "content": "there"},
    )
    assert system == "a\n\nb"
    assert messages == (Message("user", (Text("hi"), Text("there"))),)


def test_a_tool_loop() -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}} for n in (1, 2)]
    _, messages = translated(
        USER,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
        tools=[TOOL],
    )
    assert messages[1:] == (
        Message("assistant", (ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}"))),
        Message("user", (ToolResult("c1", "one"), ToolResult("c2", "two"))),
    )


def test_images_by_data_and_https_url() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/webp;base64,aGk=", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.com/a.png"},
    ]
    _, messages = translated({"role": "user", "content": parts})
    assert messages[0].content == (Image("image/webp", "aGk="), Image(url="https://example.com/a.png"))


@pytest.mark.parametrize(
    "url", ["http://example.com/a.png", "file:///etc/passwd", "data:text/html;base64,aGk=", "data:image/png;base64,a b"]
)
def test_other_images_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert caught.value.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "system", "content": "x"}], "messages"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "messages[0].content[0].type"),
        ([USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        ([USER, {"role": "tool", "content": "x", "tool_call_id": "nope"}], "messages[1].tool_call_id"),
    ],
)
def test_messages_that_cannot_be_used(messages: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated(*messages)
    assert caught.value.param == param


REFUSED = {
    "n": 2,
    "logprobs": True,
    "top_logprobs": 3,
    "seed": 1,
    "response_format": {"type": "json_object"},
    "logit_bias": {"1": 2},
    "presence_penalty": 0.5,
    "frequency_penalty": -1,
    "modalities": ["text", "audio"],
    "audio": {"voice": "x"},
    "functions": [],
    "prediction": {},
    "service_tier": "flex",
    "never_heard_of": 1,
}
TAKEN = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": None,
    "response_format": {"type": "text"},
    "presence_penalty": 0,
    "user": "someone",
    "metadata": {"a": "b"},
    "store": True,
    "service_tier": "auto",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(name: str) -> None:
    for use in (lambda r: to_model_request(r, model="up", max_output=9), to_agent_request):
        with pytest.raises(InvalidRequest, match=f"`{name}`") as caught:
            use(request(**{name: REFUSED[name]}))
        assert caught.value.param == name


@pytest.mark.parametrize("name", TAKEN)
def test_what_asks_for_nothing_more_is_taken(name: str) -> None:
    parsed = request(**{name: TAKEN[name]})
    assert to_model_request(parsed, model="up", max_output=9).extra == {}
    assert to_agent_request(parsed).messages == (Message("user", (Text("hi"),)),)


def test_the_rest_of_a_model_request() -> None:
    model_request = to_model_request(
        request(
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "look"}},
            max_completion_tokens=7,
            stop="END",
            reasoning_effort="xhigh",
            parallel_tool_calls=False,
            temperature=1,
            top_p=0.5,
            user="tenant-acme",
        ),
        model="up",
        max_output=100,
    )
    assert model_request.model == "up"
    assert model_request.tools == (ToolSpec("look", "", {"type": "object"}),)
    assert (model_request.tool_choice, model_request.max_tokens, model_request.stop) == ("look", 7, ("END",))
    assert (model_request.thinking, model_request.parallel_tool_calls) == ("high", False)
    assert (model_request.temperature, model_request.top_p) == (1.0, 0.5)
    assert "acme" not in repr(model_request)
    assert to_model_request(request(), model="up", max_output=100).max_tokens == 100


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"stop": [""]}, "stop"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"max_tokens": 101}, "max_tokens"),
        ({"max_completion_tokens": 101}, "max_completion_tokens"),
    ],
)
def test_fields_that_make_no_sense(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated(**fields)
    assert caught.value.param == param


def test_an_agent_takes_messages_and_limits() -> None:
    agent = to_agent_request(request({"role": "system", "content": "s"}, USER, max_tokens=5, temperature=0.5, top_p=1))
    assert (agent.system, agent.max_tokens, agent.temperature) == ("s", 5, 0.5)


@pytest.mark.parametrize(
    "fields",
    [{"tools": [TOOL]}, {"stop": "x"}, {"reasoning_effort": "low"}, {"top_p": 0.5}, {"tool_choice": "required"}],
)
def test_an_agent_has_its_own_tools_and_ends(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_agent_request(request(**fields))
    assert caught.value.param == next(iter(fields))


@given(requests(thinking=False, images=False))
def test_what_openais_vendor_would_be_sent_is_read_back_whole(asked: ModelRequest) -> None:
    body = json.dumps(request_body(asked, Dialect())).encode()
    assert to_model_request(parse(body), model="m", max_output=4096) == asked


def test_reasoning_comes_back_with_its_proof() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "proof", "index": 0}]
    _, messages = translated(
        USER, {"role": "assistant", "content": "x", "reasoning_content": "hm", "reasoning_details": details}, USER
    )
    assert messages[1].content == (Thinking("hm", "proof"), Text("x"))
    _, messages = translated(USER, {"role": "assistant", "content": "x", "reasoning_content": "hm"}, USER)
    assert messages[1].content[0] == Thinking("hm")


def test_a_schema_for_the_answer() -> None:
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}
    made = to_model_request(request(response_format=shape), model="up", max_output=9)
    assert made.output_schema == OutputSchema("a", {"type": "object"})
    with pytest.raises(InvalidRequest) as refused:
        to_agent_request(request(response_format=shape))
    assert refused.value.param == "response_format"


@pytest.mark.parametrize(
    ("messages", "fields", "param"),
    [
        ([{**USER, "name": "bob"}], {}, "messages[0].name"), ([{**USER, "odd": 1}], {}, "messages[0].odd"),
        ([{"role": "user", "content": [{"type": "text", "text": "x", "odd": 1}]}], {}, "messages[0].content[0].odd"),
        ([], {"tools": [{**TOOL, "odd": 1}]}, "tools[0].odd"),
        ([], {"tools": [{"type": "function", "function": {"name": "f", "odd": 1}}]}, "tools[0].function.odd"),
    ],
)  # fmt: skip
def test_what_is_inside_is_not_dropped_either(
    messages: list[dict[str, Any]], fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_model_request(request(*messages, **fields), model="up", max_output=9)
    assert refused.value.param == param


def test_what_an_answer_held_may_come_back() -> None:
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "parsed": {"a": 1},
    }
    translated(USER, said, {"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"a": 1}}]})
