"""Responses as callers read them: their events in order, and the whole of them at the end."""

import json
from typing import Any

import pytest
from hypothesis import given

from carrel.errors import UpstreamError
from carrel.wire.conversation import Finished, ToolDelta
from carrel.wire.responses_answer import ResponseStream, encode_event, replay
from carrel.wire.responses_items import conversation
from carrel.wire.responses_request import parse
from carrel.wire.usage import usage_from_openai
from tests.unit.wire.rounds import finished, pieces_of, records

ASK = b'{"model":"m","input":"hi"}'


def stream() -> ResponseStream:
    return parse(ASK).streaming(id="1", created=5)


@given(finished())
def test_what_was_said_is_read_back_whole(answer: Finished) -> None:
    for events in (pieces_of(answer), pieces_of(answer, tools=False), [answer]):
        said = stream()
        found = records(said, events)
        final = found[-1]["response"]
        assert said.final == final
        assert usage_from_openai(final["usage"]) == answer.usage
        _, [message] = conversation(final["output"])
        assert message == answer.message


@given(finished())
def test_events_are_numbered_and_each_item_is_begun_and_ended_in_order(answer: Finished) -> None:
    found = records(stream(), pieces_of(answer))
    check(found)
    check(list(replay(found[-1]["response"])))


def check(found: Any) -> None:
    """The order that the dialect's documentation has."""
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    open_item = None
    done: list[Any] = []
    for event in found[2:-1]:
        if event["type"] == "response.output_item.added":
            assert open_item is None
            open_item = event["item"]["id"]
            assert event["output_index"] == len(done)
        elif event["type"] == "response.output_item.done":
            assert event["item"]["id"] == open_item
            done.append(event["item"])
            open_item = None
        else:
            assert event["item_id"] == open_item
    assert open_item is None
    assert found[-1]["type"] == f"response.{found[-1]['response']['status']}"
    assert found[-1]["response"]["output"] == done


def test_what_is_replayed_of_a_response_that_has_not_ended_has_no_end() -> None:
    events = list(replay({"id": "r", "status": "in_progress", "output": []}))
    assert [event["type"] for event in events] == ["response.created", "response.in_progress"]
    cancelled = list(replay({"id": "r", "status": "cancelled", "output": [{"type": "odd_call", "id": "x"}]}))
    assert cancelled[-1]["type"] == "response.incomplete"


def test_mixed_pieces_of_calls_are_never_put_together_wrongly() -> None:
    said = stream()
    said.event(ToolDelta("a", "f", "{"))
    said.event(ToolDelta("b", "f", "{"))
    with pytest.raises(UpstreamError, match="mixed"):
        said.event(ToolDelta("a", "f", "}"))


def test_at_work_and_broken_off() -> None:
    said = stream()
    assert said.tick().count(b"event: ") == 2
    assert said.tick() == b""
    assert json.loads(said.error("upstream_error", "no", type="x").split(b"data: ")[1])["sequence_number"] == 2
    assert encode_event({"type": "a"}) == b'event: a\ndata: {"type":"a"}\n\n'
