"""Anthropic's dialect on the pass-through path."""

import json
from typing import Any

import pytest
from multidict import CIMultiDict

from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest
from carrel.relay.dialects.messages import CountFields, MessagesFields, MessagesObserver
from tests.fakes.vendor import anthropic_side
from tests.fakes.vendor.scripts import FakeCall, Script

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
FIELDS = MessagesFields(model="m")


def read(**more: Any) -> MessagesFields:
    return MessagesFields.read(json.dumps({**ASK, **more}).encode())


def saying(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def watch(script: Script, size: int = 7) -> tuple[MessagesObserver, bytes]:
    data = b"".join(anthropic_side.frames(ASK, script, "x"))
    observer, out = MessagesObserver(), b""
    for at in range(0, len(data), size):
        out += observer.feed(data[at : at + size])
    out += observer.finish()
    assert out + observer.held == data
    return observer, out


def test_what_is_said() -> None:
    found = read(stream=True)
    assert (found.model, found.stream, found.max_output, found.images) == ("m", True, 9, 0)
    counted = CountFields.read(json.dumps({k: v for k, v in ASK.items() if k != "max_tokens"}).encode())
    assert (counted.metered, counted.generates, counted.max_output) == (False, False, None)


@pytest.mark.parametrize(
    ("more", "param"),
    [({"max_tokens": None}, "max_tokens"), ({"max_tokens": 0}, "max_tokens"), ({"model": ""}, "model"),
     ({"messages": "hi"}, "messages"), ({"messages": ["hi"]}, "messages[0]"), ({"stream": "yes"}, "stream")],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**more)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"container": "container_1"}, "container"), ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"speed": "fast"}, "speed"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"tools": [{"name": "x"}, {"type": "web_search_20250305", "name": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "code_execution_20250825", "name": "c"}]}, "tools[0].type"),
        (saying({"type": "document", "source": {"type": "file", "file_id": "f"}}), "messages[0].content"),
        (saying({"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}),
         "messages[0].content"),
    ],
)  # fmt: skip
def test_what_tenants_would_share_or_costs_more_than_tokens_is_for_the_tenants_own_key(
    more: dict[str, Any], param: str
) -> None:
    found = read(**more)
    assert found.own_key_only is not None
    assert found.own_key_only.refusal().param == param
    assert found.images >= 1 << 20 or param in ("speed", "inference_geo")


@pytest.mark.parametrize(
    "more",
    [
        {"container": None}, {"mcp_servers": []}, {"speed": "standard"}, {"service_tier": "standard_only"},
        {"inference_geo": "global"}, {"inference_geo": None},
        {"tools": [{"name": "x", "input_schema": {}}, {"type": "custom", "name": "y"},
                   {"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "e"}]},
        saying({"type": "text", "text": "file_id"}, {"type": "tool_result", "content": "container"}),
    ],
)  # fmt: skip
def test_and_what_is_the_callers_own_passes(more: dict[str, Any]) -> None:
    assert read(**more).own_key_only is None


def test_blocks_that_are_larger_than_their_bytes_are_counted() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}
    assert read(**saying(image, {"type": "tool_result", "content": [image, {"type": "text", "text": "x"}]})).images == 2
    assert read(**saying({"type": "document", "source": {"type": "url", "url": "https://x"}})).images >= 1 << 20


def test_the_versions_of_the_api_are_the_callers_own_and_nothing_else_of_it() -> None:
    headers = CIMultiDict(
        {"Anthropic-Version": "2024-01-01", "anthropic-beta": "a-1", "x-api-key": "tk", "X-Other": "y"}
    )
    headers.add("Anthropic-Beta", "b-2")
    assert MessagesFields.forwarded(headers) == b"anthropic-version: 2024-01-01\r\nanthropic-beta: a-1, b-2\r\n"
    assert MessagesFields.forwarded({}) == b"anthropic-version: 2023-06-01\r\n"
    for bad in ("a\r\nx-api-key: y", "é", "a" * 5000):
        with pytest.raises(InvalidRequest):
            MessagesFields.forwarded({"anthropic-beta": bad})


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_stream_is_counted_from_its_first_and_last_events_and_its_end_is_held(size: int) -> None:
    script = Script(
        thinking="Hm, a \"usage\": {} in quotes.", calls=(FakeCall("a", "{}"), FakeCall("b", '{"x": "message_stop"}')),
        usage={"prompt": 100, "cached": 60, "cache_write": 10, "completion": 20, "reasoning": 7},
    )  # fmt: skip
    observer, out = watch(script, size)
    assert observer.seen.counts == TokenCounts(input=30, cache_read=60, cache_write=10, output=13, reasoning=7)
    assert (observer.seen.tool_calls, observer.seen.open_ended, observer.done, observer.finished) == (
        2,
        False,
        True,
        True,
    )
    assert b"message_stop" in observer.held
    assert b"event: message_stop" not in out


def test_a_stream_that_breaks_off_has_its_input_and_no_more() -> None:
    observer = MessagesObserver()
    for frame in anthropic_side.frames(ASK, Script(), "x")[:4]:
        observer.feed(frame)
    assert observer.seen.counts is not None
    assert (observer.seen.counts.input, observer.seen.open_ended, observer.done) == (100, True, False)


def test_an_error_in_a_stream_is_seen() -> None:
    observer = MessagesObserver()
    frame = anthropic_side.error_frame(Script(error="Overloaded"))
    assert observer.feed(frame) == frame
    assert observer.seen.error
    said = FIELDS.error_event("upstream_error", "It broke.")
    assert observer.feed(said) == said
    assert json.loads(said.split(b"data: ")[1])["error"]["type"] == "api_error"


def test_whole_answers() -> None:
    script = Script(calls=(FakeCall("a", "{}"),), usage={"cached": 40})
    body = json.dumps(anthropic_side.whole(ASK, script, "x")).encode()
    seen = FIELDS.seen_in(body)
    assert (seen.counts, seen.tool_calls, seen.error) == (TokenCounts(input=60, cache_read=40, output=20), 1, False)
    assert FIELDS.seen_in(b'{"type":"error","error":{}}').error
    assert FIELDS.seen_in(b"[]").counts is None
    assert FIELDS.seen_in_ends(body[:40], body[-400:]).counts == seen.counts
