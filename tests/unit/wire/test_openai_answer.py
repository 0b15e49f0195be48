"""Answers as OpenAI's clients read them: the SDK's own types are the judges."""

import json
from typing import Any

from hypothesis import given
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from carrel.declare.rate_card import TokenCounts
from carrel.wire.conversation import Finished, Message, Text, TextDelta, Thinking, ThinkingDelta, ToolCall
from carrel.wire.openai_answer import ChatStream, completion, error_body
from carrel.wire.openai_upstream import ChunkReader
from carrel.wire.proofs import from_details
from carrel.wire.sse import SseDecoder
from tests.unit.wire import rounds

CALL = ToolCall("c1", "look", '{"a": 1}')
MESSAGE = Message("assistant", (Thinking("hm"), Text("hé"), CALL))
USAGE = TokenCounts(input=4, cache_read=6, output=2, reasoning=3)


def records(data: bytes) -> list[Any]:
    return [e.data if e.data == "[DONE]" else json.loads(e.data) for e in SseDecoder().feed(data)]


def test_a_stream_with_everything() -> None:
    stream = ChatStream(id="chatcmpl-1", model="m", created=5, include_usage=True)
    data = b"".join(
        stream.event(e) for e in (ThinkingDelta("hm"), TextDelta("hé"), Finished(MESSAGE, "tool_calls", USAGE))
    )
    *chunks, done = records(data)
    assert done == "[DONE]"
    parsed = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks]
    assert {c.id for c in parsed} == {"chatcmpl-1"}
    assert parsed[0].choices[0].delta.role == "assistant"
    assert chunks[1]["choices"][0]["delta"] == {"reasoning_content": "hm"}
    assert "".join(c.choices[0].delta.content or "" for c in parsed if c.choices) == "hé"
    assert chunks[3]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    ]
    assert parsed[-2].choices[0].finish_reason == "tool_calls"
    assert parsed[-1].choices == []
    assert parsed[-1].usage is not None
    assert (parsed[-1].usage.prompt_tokens, parsed[-1].usage.completion_tokens) == (10, 5)
    assert all(c["usage"] is None for c in chunks[:-1])


def test_usage_is_not_sent_unasked() -> None:
    stream = ChatStream(id="chatcmpl-1", model="m", created=5)
    chunks = records(stream.text("a") + stream.text("") + stream.finish("length", USAGE))[:-1]
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert len(chunks) == 3


def test_an_error_in_the_stream_is_what_clients_raise_on() -> None:
    stream = ChatStream(id="chatcmpl-1", model="m", created=5)
    assert records(stream.error("upstream_error", "It broke.")) == [
        {"error": {"message": "It broke.", "type": "server_error", "param": None, "code": "upstream_error"}}
    ]


def test_a_whole_completion() -> None:
    body = completion(id="chatcmpl-1", model="m", created=5, message=MESSAGE, stop="tool_calls", usage=USAGE)
    parsed = ChatCompletion.model_validate(body)
    assert parsed.choices[0].message.content == "hé"
    assert body["choices"][0]["message"]["reasoning_content"] == "hm"
    assert parsed.usage is not None
    assert parsed.usage.prompt_tokens_details is not None
    assert parsed.usage.prompt_tokens_details.cached_tokens == 6
    calls_only = Message("assistant", (CALL,))
    body = completion(id="c", model="m", created=5, message=calls_only, stop="tool_calls", usage=None)
    assert body["choices"][0]["message"]["content"] is None
    empty = completion(id="c", model="m", created=5, message=Message("assistant", ()), stop="end", usage=None)
    assert empty["choices"][0]["message"]["content"] == ""


def test_error_bodies() -> None:
    assert error_body("model_not_found", "No.", param="model") == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    }


@given(rounds.finished(thinking=False))
def test_a_stream_is_read_back_whole(answer: Finished) -> None:
    for events in (rounds.pieces_of(answer), rounds.pieces_of(answer, tools=False)):
        stream = ChatStream(id="chatcmpl-1", model="m", created=5, include_usage=True)
        reader = ChunkReader()
        for record in rounds.records(stream, events):
            reader.read(record)
        back = reader.finish(done=True)
        assert (back.message, back.usage) == (answer.message, answer.usage)
        assert back.stop == answer.stop


@given(rounds.PROVEN)
def test_thinking_comes_with_its_proof_whole_and_streamed(thinking: Thinking) -> None:
    answer = Finished(Message("assistant", (thinking, Text("x"))), "end", None)
    whole = completion(id="1", model="m", created=5, message=answer.message, stop="end", usage=None)
    assert from_details(whole["choices"][0]["message"]["reasoning_details"], "x") == [thinking]
    stream = ChatStream(id="chatcmpl-1", model="m", created=5)
    found = rounds.records(stream, [*rounds.pieces_of(answer)])
    deltas = [record["choices"][0]["delta"] for record in found if record["choices"]]
    details = [detail for delta in deltas for detail in delta.get("reasoning_details", ())]
    assert from_details(details, "x") == [thinking]
