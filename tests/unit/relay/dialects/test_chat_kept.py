"""An answer in pieces, put together as a whole one would have been."""

import json
from dataclasses import replace
from typing import Any

from carrel.relay.dialects import chat_kept
from carrel.relay.dialects.chat_kept import KeptChatFields
from tests.fakes.vendor import openai_side
from tests.fakes.vendor.scripts import FakeCall, Script

ASK: dict[str, Any] = {"model": "m", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
CALLS = (FakeCall("look", '{"a": "b"}', "call_1"), FakeCall("see", '{"c": 2}', "call_2"))


def told(script: Script, *, piece: int = 7, **more: Any) -> list[dict[str, Any]]:
    """What is found in a stream of ``script`` that comes in pieces of so many bytes."""
    fields = KeptChatFields(model="m")
    observer = fields.observer(hide_usage=False)
    stream = b"".join(openai_side.frames({**ASK, **more}, script, "c"))
    passed = b"".join(observer.feed(stream[at : at + piece]) for at in range(0, len(stream), piece))
    assert passed + observer.finish() + observer.held == stream
    return fields.answers


def test_a_stream_is_what_the_whole_answer_would_have_been() -> None:
    for script in (Script(), Script(thinking="Hm."), Script(text="", calls=CALLS), Script(text="Look:", calls=CALLS)):
        for more, piece in (({}, 7), ({"n": 2}, 7), ({}, 1 << 20)):
            [answer] = told(script, piece=piece, **more)
            whole = openai_side.whole({**ASK, **more}, script, "c")
            assert answer == json.loads(json.dumps(whole)), script


def test_vendors_that_say_a_call_in_one_piece_are_understood() -> None:
    for style in ("whole", "index_0"):
        [answer] = told(Script(text="", calls=CALLS[:1], call_style=style))
        [call] = answer["choices"][0]["message"]["tool_calls"]
        assert call["function"] == {"name": "look", "arguments": '{"a": "b"}'}


def test_a_stream_that_does_not_end_properly_is_put_together_as_far_as_it_came() -> None:
    [answer] = told(Script(done=False))
    assert answer["choices"][0]["message"]["content"] == "Hello from the fake vendor."


def test_what_is_too_long_is_not_put_together(monkeypatch: Any) -> None:
    monkeypatch.setattr(chat_kept, "MOST_BYTES", 300)
    assert told(Script()) == []


def test_a_whole_answer_is_taken_and_an_error_is_none() -> None:
    fields = KeptChatFields(model="m")
    fields.seen_in(b'{"error": {"message": "no"}}')
    assert fields.answers == []
    fields.seen_in(b'{"id": "c", "choices": [{"index": 0, "message": {"content": "x"}}]}')
    assert fields.answers[0]["id"] == "c"


async def test_of_several_calls_the_one_that_wins_is_taken() -> None:
    fields = KeptChatFields(model="m")
    noted: list[str] = []

    async def written() -> None:
        noted.append(fields.answers[-1]["id"])

    fields = replace(fields, written=written)
    one, two = fields.apart(), fields.apart()
    one.answers.append({"id": "one"})
    two.answers.append({"id": "two"})
    assert two.written is not None
    await two.written()
    assert noted == ["two"]


def test_an_id_of_its_own_is_in_every_chunk_and_in_what_is_kept() -> None:
    stream = b"".join(openai_side.frames(ASK, Script(text="Look:", calls=CALLS), "c"))
    for piece in (7, 1 << 20):
        fields = KeptChatFields(model="m", own_id="own")
        observer = fields.observer(hide_usage=False)
        passed = b"".join(observer.feed(stream[at : at + piece]) for at in range(0, len(stream), piece))
        assert passed + observer.finish() + observer.held == stream.replace(b'"id": "c"', b'"id": "own"')
        assert fields.answers[0]["id"] == "own"
        assert observer.seen.counts is not None


def test_an_id_of_its_own_is_in_a_whole_answer_and_in_no_error() -> None:
    fields = KeptChatFields(model="m", own_id="own")
    error = b'{"error": {"message": "no"}, "id": "c"}'
    fields.seen_in(error)
    assert fields.passed(error) == error
    body = b'{"choices": [{"index": 0, "message": {"content": "x"}}], "id": "c"}'
    fields.seen_in(body)
    assert fields.passed(body) == body.replace(b'"c"', b'"own"')
    assert fields.answers == [json.loads(fields.passed(body))]
