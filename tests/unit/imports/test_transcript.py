"""Their transcripts as ours: what a model is sent of them is what was said."""

import json
from datetime import UTC, datetime
from typing import Any

from carrel.agents import transcript as ours
from carrel.agents.history import history
from carrel.imports.transcript import Converted, convert, moment, parse_lines
from carrel.wire.conversation import Image, Text, Thinking, ToolCall, ToolResult
from tests.fakes.openclaw import oldest, transcript

HEADER = b'{"type":"session","version":1,"id":"s","agent":"main","created":"2026-01-01T00:00:00Z"}\n'


def loaded(done: Converted) -> ours.Loaded:
    data = HEADER + b"".join(json.dumps(line).encode() + b"\n" for line in done.lines)
    read = ours.parse(data)
    assert read.problems == ()
    return read


def converted(text: str) -> Converted:
    return convert(*parse_lines(text.encode()))


def test_a_session_goes_on_where_it_was() -> None:
    done = converted(transcript())
    said = [item.message for item in history(loaded(done).entries)]
    assert said[0].content == (
        Text("Summary of the conversation so far, written to make room:\n\nThey looked at files."),
    )
    assert [message.role for message in said] == ["user", "assistant", "user", "assistant"]
    assert said[1].content == (Text("Two files: AGENTS.md and notes.txt."),)
    assert said[2].content == (Text("Look at this"), Image("image/png", "aGVsbG8="))
    assert done.began == datetime(2026, 1, 1, tzinfo=UTC)
    assert done.notes == ["1 entries of branches that were left behind are left out"]


def test_before_its_compaction_all_of_it_is_there() -> None:
    done = converted(transcript())
    entries = [entry for entry in loaded(done).entries if entry.type != "compaction"]
    said = [item.message for item in history(entries)]
    assert said[1].content == (
        Thinking("I look.", "c2ln"), ToolCall("toolu_1", "exec", '{"command": "ls"}'),
    )  # fmt: skip
    assert said[2].content == (ToolResult("toolu_1", "AGENTS.md\nnotes.txt"),)
    calls = [entry for entry in entries if entry.type == "model_call"]
    assert (calls[0].usage.input, calls[0].usage.cache_read, calls[0].usage.cache_write) == (12, 100, 7)


def test_the_oldest_kind_is_in_order() -> None:
    said = [item.message for item in history(loaded(converted(oldest())).entries)]
    assert [(message.role, message.content) for message in said] == [
        ("user", (Text("hi"),)), ("assistant", (Text("hello there"),)),
    ]  # fmt: skip


def test_a_leaf_that_was_gone_back_to_is_where_it_goes_on() -> None:
    text = transcript() + json.dumps({"type": "leaf", "id": "l", "parentId": None, "targetId": "e3"}) + "\n"
    said = [item.message for item in history(loaded(converted(text)).entries)]
    assert said[-1].content == (Text("Two files: AGENTS.md and notes.txt."),)


def test_hostile_lines_are_named_and_the_rest_is_kept() -> None:
    strange: list[Any] = [
        {"type": "message", "id": "a", "parentId": "a", "message": {"role": "user", "content": "loop"}},
        {"type": "message", "id": "a", "parentId": None, "message": {"role": "user", "content": "twice"}},
        {"type": "message", "id": 7, "message": {"role": "user", "content": "\ud800"}},
        {"type": "message", "id": "b", "parentId": "a", "message": {"role": "king", "content": None}},
        {"type": "message", "id": "c", "parentId": "b", "message": {"role": "assistant", "usage": {"input": -1},
         "model": 5, "content": [{"type": "hologram"}, {"type": "text", "text": "ok\ud800"}, 5, None]}},
        {"type": "wormhole", "id": "d", "parentId": "c"},
        {"type": "compaction", "id": "e", "parentId": "d", "summary": None, "tokensBefore": "many"},
    ]  # fmt: skip
    data = b"\xff\xfe\n[1]\n" + b"".join(json.dumps(one).encode() + b"\n" for one in strange) + b'{"torn'
    done = convert(*parse_lines(data))
    assert "lines that are no JSON are left out: 1, 2, 10" in done.notes
    assert any("twice" in note for note in done.notes)
    assert any("king" in note for note in done.notes)
    assert any("hologram" in note for note in done.notes)
    assert any("wormhole" in note for note in done.notes)
    assert [entry.type for entry in loaded(done).entries] == ["message", "message", "model_call", "compaction"]


def test_members_of_the_wrong_type_are_told_and_the_rest_is_kept() -> None:
    good = {"type": "message", "id": "a", "parentId": None, "message": {"role": "user", "content": "hi"}}
    wrongs: list[Any] = [[], {}, 5, None, True, [["x"]]]
    for wrong in wrongs:
        strange: list[dict[str, Any]] = [
            good, {"type": wrong, "id": "b", "parentId": "a"}, {"type": "message", "id": wrong, "parentId": wrong},
            {"type": "message", "id": "c", "parentId": "b", "message": {"role": wrong, "content": "x"}},
            {"type": "leaf", "id": "l", "targetId": wrong},
            {"type": "message", "id": "d", "parentId": "c", "message": {"role": "user", "content": "bye"}},
        ]  # fmt: skip
        done = convert(strange)
        texts = [line["content"][0]["text"] for line in done.lines]
        assert (texts[0], texts[-1]) == ("hi", "bye"), wrong
        assert any(str(wrong) in note for note in done.notes), wrong


def test_times() -> None:
    assert moment(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert moment("2026-01-01T00:00:00Z") == moment("2026-01-01T00:00:00")
    bad: Any
    for bad in ("x", None, True, 1e300, [], "9" * 50):
        assert moment(bad) is None
