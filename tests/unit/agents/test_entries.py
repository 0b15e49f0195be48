"""What a transcript's line says is what was put into it."""

import gc
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from carrel.agents.entries import (
    Header,
    MessageEntry,
    NoteEntry,
    ToolResultEntry,
    encode,
    parse_entry,
    restored,
    stored,
)
from carrel.wire.conversation import Block, Image, Message, Text, Thinking, ToolCall, ToolResult

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=["Cs"]))
blocks: st.SearchStrategy[Block] = st.one_of(
    st.builds(Text, texts),
    st.builds(Image, st.just("image/png"), texts, texts),
    st.builds(Thinking, texts, texts, texts),
    st.builds(ToolCall, texts, texts, texts),
    st.builds(ToolResult, texts, texts, st.booleans()),
)


@given(st.lists(blocks).map(tuple))
def test_a_message_comes_back_as_it_was_in_one_line(content: tuple[Block, ...]) -> None:
    message = Message("assistant", content)
    entry = MessageEntry(id=7, ts=NOW, role="assistant", content=stored(message), provider="p")
    line = encode(entry)
    assert line.count(b"\n") == 1
    assert parse_entry(line) == entry
    assert restored(entry) == message


def test_the_format_is_what_is_documented() -> None:
    header = encode(Header(id="s1", agent="main", created=NOW))
    assert header == (
        b'{"type":"session","version":1,"id":"s1","agent":"main","created":"2026-03-01T12:00:00.123456Z"}\n'
    )
    result = encode(ToolResultEntry(id=3, ts=NOW, call_id="c", name="shell", content="é\n", seconds=0.5))
    assert result.decode() == (
        '{"id":3,"ts":"2026-03-01T12:00:00.123456Z","type":"tool_result","call_id":"c","name":"shell",'
        '"content":"é\\n","is_error":false,"seconds":0.5}\n'
    )


@pytest.mark.parametrize(
    "line",
    [b"", b"null", b"[]", b"{}", b'{"type":"nothing"}', b'{"type":"reset","id":1,"more":2}',
     b'{"type":"reset","id":"1","ts":"2026-03-01T12:00:00Z"}', b'{"type":"reset","id":1,"ts":"2026-03-01T12:00:00"}',
     b"\xff\xfe", b"\x00\x00"],
)  # fmt: skip
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_entry(line)


def test_lines_are_frozen() -> None:
    with pytest.raises(ValidationError):
        NoteEntry(text="x").text = "y"  # type: ignore[misc] # that it cannot be done is the test


def test_what_was_read_does_not_stay_in_memory() -> None:
    lines = [encode(NoteEntry(id=1, ts=NOW, text=f"said once: {number}")) for number in range(4000)]
    parse_entry(lines[0])
    gc.collect()
    before = sys.getallocatedblocks()
    for line in lines:
        parse_entry(line)
    gc.collect()
    assert sys.getallocatedblocks() - before < 400
