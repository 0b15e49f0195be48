"""OpenAI's Responses on the pass-through path."""

import json
from dataclasses import replace
from typing import Any

import pytest

from carrel.declare.rate_card import TokenCounts
from carrel.errors import InvalidRequest
from carrel.relay.dialects.responses import ResponsesFields, ResponsesObserver
from tests.fakes.vendor import responses_side
from tests.fakes.vendor.scripts import FakeCall, Script

ASK: dict[str, Any] = {"model": "m", "input": "hello"}
FIELDS = ResponsesFields(model="m")


def read(**more: Any) -> ResponsesFields:
    return ResponsesFields.read(json.dumps({**ASK, **more}).encode())


def frames(script: Script) -> list[bytes]:
    return responses_side.frames(ASK, script, "x")


def test_what_is_said() -> None:
    found = read(stream=True, max_output_tokens=9, input=[{"role": "user", "content": "hi"}])
    assert (found.model, found.stream, found.max_output, found.images) == ("m", True, 9, 0)


@pytest.mark.parametrize(
    ("more", "param"),
    [({"background": True}, "background"), ({"model": 7}, "model"), ({"input": ["x"]}, "input"),
     ({"max_output_tokens": 0}, "max_output_tokens"), ({"stream": 1}, "stream")],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(more: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**more)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tools[0].type"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}, {"type": "mcp"}]}, "tools[1].type"),
        ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]}, "tools[0].type"),
        ({"tools": [{"type": "namespace", "tools": [{"type": "code_interpreter"}]}]}, "tools[0].tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input"),
    ],
)  # fmt: skip
def test_what_is_stored_or_costs_more_than_tokens_is_for_the_tenants_own_key(more: dict[str, Any], param: str) -> None:
    found = read(**more)
    assert found.own_key_only is not None
    assert found.own_key_only.refusal().param == param


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": None}, {"service_tier": "auto"}, {"store": True},
        {"tools": [{"type": "function"}, {"type": "custom"}, {"type": "local_shell"}, {"type": "shell"},
                   {"type": "namespace", "tools": [{"type": "function"}]}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                   {"type": "function_call_output", "call_id": "c", "output": "file_id"}]},
    ],
)  # fmt: skip
def test_and_what_is_the_callers_own_passes(more: dict[str, Any]) -> None:
    assert read(**more).own_key_only is None


def test_a_search_that_the_model_need_not_take_is_left_out() -> None:
    body = (
        b'{"model": "m", "input": "x", "tools": '
        b'[{"type": "web_search"}, {"type": "function", "x": 1.50}, {"type":"web_search_preview"}]}'
    )
    found = ResponsesFields.read(body)
    assert (found.own_key_only, found.left_out) == (None, (0, 2))
    sent = found.outgoing(body, None, asks_usage=True, byo=False).body
    assert sent == b'{"store":false,"model": "m", "input": "x", "tools": [{"type": "function", "x": 1.50}]}'
    assert found.outgoing(body, None, asks_usage=True, byo=True).body == body


def test_parts_that_are_larger_than_their_bytes_are_counted() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png"}
    assert read(input=[{"role": "user", "content": [image, {"type": "input_text", "text": "x"}]}]).images == 1
    assert read(input=[{"type": "function_call_output", "call_id": "c", "output": [image]}]).images == 1
    far = {"type": "input_file", "file_url": "https://x"}
    assert read(input=[{"role": "user", "content": [far]}]).images >= 1 << 20


def test_with_the_operators_key_nothing_is_stored_whatever_was_said() -> None:
    for said in (b'{"model": "m", "input": "x"}', b'{"model": "m", "store": true, "input": "x"}'):
        sent = json.loads(FIELDS.outgoing(said, None, asks_usage=True, byo=False).body)
        assert sent == {"model": "m", "input": "x", "store": False}
        assert FIELDS.outgoing(said, None, asks_usage=True, byo=True).body == said
    renamed = json.loads(FIELDS.outgoing(b'{"model": "m"}', "theirs", asks_usage=True, byo=False).body)
    assert renamed == {"model": "theirs", "store": False}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize(("finish", "error"), [("", False), ("length", False), ("error", True)])
def test_a_stream_is_counted_by_its_last_event_which_is_held(size: int, finish: str, error: bool) -> None:
    script = Script(
        finish=finish, text='He said "response.completed" and "usage": {}', thinking="Hm.",
        calls=(FakeCall("a", "{}"), FakeCall("b", "{}")), usage={"prompt": 100, "cached": 60},
    )  # fmt: skip
    data = b"".join(frames(script))
    observer, out = ResponsesObserver([]), b""
    for at in range(0, len(data), size):
        out += observer.feed(data[at : at + size])
    assert out + observer.held == data
    assert observer.held == frames(script)[-1]
    assert observer.seen.counts == TokenCounts(input=40, cache_read=60, output=13, reasoning=7)
    assert (observer.seen.tool_calls, observer.seen.error, observer.done) == (2, error, True)


def test_a_stream_that_breaks_off_has_no_counts() -> None:
    observer = ResponsesObserver([])
    for frame in frames(Script(calls=(FakeCall("a", "{}"),)))[:-1]:
        observer.feed(frame)
    assert (observer.seen.counts, observer.seen.tool_calls, observer.done) == (None, 1, False)
    assert observer.estimated_output() > 0


def test_errors_in_a_stream_are_seen_in_either_shape() -> None:
    said = FIELDS.error_event("upstream_error", "It broke.")
    for frame in (responses_side.error_frame(Script()), b'data: {"error": {"message": "x"}}\n\n', said):
        observer = ResponsesObserver([])
        assert observer.feed(frame) == frame
        assert observer.seen.error


def test_whole_answers() -> None:
    body = json.dumps(responses_side.whole(ASK, Script(calls=(FakeCall("a", "{}"),)), "x")).encode()
    seen = FIELDS.seen_in(body)
    assert (seen.counts, seen.tool_calls, seen.error) == (TokenCounts(input=100, output=20), 1, False)
    assert FIELDS.seen_in_ends(b"{", body[-600:]).counts == seen.counts
    assert FIELDS.seen_in(b'{"status": "failed"}').error


async def test_of_two_calls_for_one_response_only_what_the_winner_found_is_taken() -> None:
    kept: list[Any] = []
    asked = replace(FIELDS, answers=[])

    async def written() -> None:
        kept.append(asked.answers[-1]["id"])

    asked = replace(asked, written=written)
    lost, won = asked.apart(), asked.apart()
    for fields, name in ((lost, "lost"), (won, "won"), (lost, "lost again")):
        fields.seen_in(json.dumps({"id": name, "status": "completed"}).encode())
    assert asked.answers == []
    assert won.written is not None
    await won.written()
    assert kept == ["won"]
    asked.take(won)
    assert [answer["id"] for answer in asked.answers] == ["won"]


def test_one_that_is_kept_has_its_own_id_in_every_event() -> None:
    data = b"".join(frames(Script(text="Look:", calls=(FakeCall("a", "{}"),))))
    for size in (7, 1 << 20):
        fields = replace(read(), own_id="resp_own")
        observer, out = fields.observer(hide_usage=False), b""
        for at in range(0, len(data), size):
            out += observer.feed(data[at : at + size])
        assert out + observer.held == data.replace(b'"resp_x"', b'"resp_own"') != data
        assert fields.answers[-1]["id"] == "resp_own"
        assert observer.seen.whole
    body = b'{"object": "response", "id": "resp_x", "output": []}'
    fields = replace(read(), own_id="resp_own")
    fields.seen_in(body)
    assert fields.passed(body) == body.replace(b"resp_x", b"resp_own")
    error = b'{"error": {"message": "no"}}'
    fields.seen_in(error)
    assert fields.passed(error) == error
    fields = read()
    fields.seen_in(body)
    assert fields.passed(body) == body
