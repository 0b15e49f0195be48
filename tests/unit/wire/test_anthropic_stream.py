"""Messages as callers read them: whole and in pieces they say the same, and a vendor's reader reads them back."""

import pytest
from hypothesis import given

from carrel.errors import UpstreamError
from carrel.wire.anthropic_messages import EventReader
from carrel.wire.anthropic_stream import MessageStream, message_body
from carrel.wire.conversation import (
    Finished,
    Message,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
)
from tests.unit.wire.rounds import finished, pieces_of, records


def read(found: list[dict[str, object]]) -> Finished:
    reader = EventReader()
    for record in found:
        reader.read(record)
    return reader.finish(done=found[-1]["type"] == "message_stop")


@given(finished())
def test_a_stream_is_read_back_whole(answer: Finished) -> None:
    for tools in (True, False):
        back = read(list(records(MessageStream(id="m", model="x"), pieces_of(answer, tools=tools))))
        assert (back.message, back.stop, back.usage) == (answer.message, answer.stop, answer.usage)


@given(finished())
def test_a_stream_that_only_ends_says_all(answer: Finished) -> None:
    back = read(list(records(MessageStream(id="m", model="x"), [answer])))
    assert (back.message, back.stop, back.usage) == (answer.message, answer.stop, answer.usage)


@given(finished())
def test_one_block_is_open_at_a_time_and_each_is_closed(answer: Finished) -> None:
    open_block = None
    for record in records(MessageStream(id="m", model="x"), pieces_of(answer)):
        match record["type"]:
            case "content_block_start":
                assert open_block is None
                open_block = record["index"]
            case "content_block_delta":
                assert record["index"] == open_block
            case "content_block_stop":
                assert record["index"] == open_block
                open_block = None
            case "message_delta" | "message_stop":
                assert open_block is None


def test_a_whole_message() -> None:
    message = Message("assistant", (Thinking("hm", "proof"), Text("yes"), ToolCall("c", "look", "{bad")))
    body = message_body(Finished(message, "tool_calls", None), id="msg_1", model="x")
    assert [block["type"] for block in body["content"]] == ["thinking", "text", "tool_use"]
    assert body["content"][2]["input"] == {"invalid_arguments": "{bad"}
    assert (body["stop_reason"], body["usage"]["output_tokens"]) == ("tool_use", 0)


def test_reasoning_without_a_proof_is_closed_by_what_follows() -> None:
    stream = MessageStream(id="m", model="x")
    found = records(stream, [ThinkingDelta("a"), TextDelta("b"), ThinkingDelta("c"), TextDelta("d")])
    assert [r["content_block"]["type"] for r in found if r["type"] == "content_block_start"] == [
        "thinking", "text", "thinking", "text",
    ]  # fmt: skip


def test_mixed_pieces_of_calls_are_never_put_together_wrongly() -> None:
    stream = MessageStream(id="m", model="x")
    stream.event(ToolDelta("a", "f", "{"))
    stream.event(ToolDelta("b", "f", "{"))
    with pytest.raises(UpstreamError, match="mixed"):
        stream.event(ToolDelta("a", "f", "}"))


def test_at_work_and_broken_off() -> None:
    stream = MessageStream(id="m", model="x")
    assert b"message_start" in stream.tick()
    assert stream.tick() == b'event: ping\ndata: {"type":"ping"}\n\n'
    assert b'"overloaded_error"' in stream.error("upstream_error", "no", type="overloaded_error")
