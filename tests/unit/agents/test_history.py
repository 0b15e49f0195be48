"""Whatever a transcript holds, the history made of it is one that every provider takes."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from carrel.agents.entries import CompactionEntry, Entry, MessageEntry, ResetEntry, ToolResultEntry, stored
from carrel.agents.history import (
    INTERRUPTED,
    SUMMARY_HEAD,
    Said,
    call_ids,
    for_model,
    history,
    messages_in,
    sound,
    unanswered,
)
from carrel.wire.conversation import Block, Image, Message, Text, Thinking, ToolCall, ToolResult

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def said(number: int, message: Message, provider: str | None = None) -> MessageEntry:
    return MessageEntry(id=number, ts=NOW, role=message.role, content=stored(message), provider=provider)


def user(number: int, *content: Block) -> MessageEntry:
    return said(number, Message("user", content))


def assistant(number: int, *content: Block, provider: str = "p") -> MessageEntry:
    return said(number, Message("assistant", content), provider)


def result(number: int, call_id: str, content: str = "done") -> ToolResultEntry:
    return ToolResultEntry(id=number, ts=NOW, call_id=call_id, name="shell", content=content)


def texts(found: list[Said]) -> list[str]:
    blocks: list[Block] = [block for item in found for block in item.message.content]
    return [block.text for block in blocks if isinstance(block, Text)]


CALL, OTHER = ToolCall("c1", "shell", "{}"), ToolCall("c2", "shell", "{}")


def test_results_follow_their_calls_in_their_order() -> None:
    found = history([user(1, Text("do")), assistant(2, CALL, OTHER), result(3, "c2", "two"), result(4, "c1", "one"),
                     assistant(5, Text("done"))])  # fmt: skip
    assert [item.message for item in found] == [
        Message("user", (Text("do"),)),
        Message("assistant", (CALL, OTHER)),
        Message("user", (ToolResult("c1", "one"), ToolResult("c2", "two"))),
        Message("assistant", (Text("done"),)),
    ]
    assert found[2].entry_id == 4


def test_a_call_without_a_result_was_interrupted() -> None:
    found = history([user(1, Text("do")), assistant(2, CALL, OTHER), result(3, "c1"), user(4, Text("and now?"))])
    assert found[2].message.content[1] == ToolResult("c2", INTERRUPTED, is_error=True)
    assert found[3].message == Message("user", (Text("and now?"),))


def test_the_same_id_in_two_rounds_is_answered_in_each() -> None:
    found = history([user(1, Text("a")), assistant(2, CALL), result(3, "c1", "first"), assistant(4, CALL),
                     result(5, "c1", "second")])  # fmt: skip
    answers = [b.content for item in found for b in item.message.content if isinstance(b, ToolResult)]
    assert answers == ["first", "second"]


def test_after_a_reset_nothing_is_left_and_the_transcript_keeps_all() -> None:
    entries: list[Entry] = [user(1, Text("old")), ResetEntry(id=2, ts=NOW)]
    assert history(entries) == []
    entries.append(user(3, Text("new")))
    assert texts(history(entries)) == ["new"]
    assert [entry.id for entry in messages_in(entries)] == [3]


def test_a_compaction_stands_for_what_was_before_it_keeps() -> None:
    compaction = CompactionEntry(id=5, ts=NOW, summary="numbers", keep_from=3, tokens_before=9)
    entries: list[Entry] = [user(1, Text("one")), assistant(2, Text("two")), user(3, Text("three")),
                            assistant(4, Text("four")), compaction, user(6, Text("five"))]  # fmt: skip
    assert texts(history(entries)) == [SUMMARY_HEAD + "numbers", "three", "four", "five"]
    assert len(messages_in(entries)) == 5


def test_reasoning_goes_back_to_its_provider_alone_and_images_to_who_sees_them() -> None:
    image = Image(data="aa")
    found = history([user(1, Text("look"), image), assistant(2, Thinking("hm", "sig"), Text("yes"), provider="a")])
    same, other = for_model(found, provider="a", images=True), for_model(found, provider="b", images=False)
    assert same[1].content == (Thinking("hm", "sig"), Text("yes"))
    assert other[1].content == (Text("yes"),)
    assert image in same[0].content
    assert not any(isinstance(block, Image) for block in other[0].content)


def test_what_nobody_answered_is_known() -> None:
    entries = [user(1, Text("a")), assistant(2, Text("b")), user(3, Text("c")), user(4, Text("d"))]
    assert unanswered(history(entries)) == [Message("user", (Text("c"),)), Message("user", (Text("d"),))]
    assert unanswered(history(entries[:2])) == []
    assert unanswered(history([user(1, Text("a")), assistant(2, CALL), result(3, "c1")])) == []


def test_call_ids_are_made_unique_and_surrogates_taken_out() -> None:
    message = Message("assistant", (Text("a\ud800"), CALL, ToolCall("c1", "x", "{}"), ToolCall("", "y", "\udfff")))
    found = sound(message, taken=["c1"])
    ids = [block.id for block in found.content if isinstance(block, ToolCall)]
    assert len(set(ids)) == 3
    assert "c1" not in ids
    assert "" not in ids
    assert found.content[0] == Text("a?")
    assert sound(Message("assistant", (CALL,))).content == (CALL,)


blocks: st.SearchStrategy[Block] = st.one_of(
    st.builds(Text, st.text(max_size=3)), st.builds(Thinking, st.text(max_size=2)),
    st.builds(ToolCall, st.sampled_from("abc"), st.just("t"), st.just("{}")),
    st.builds(ToolResult, st.sampled_from("abcd"), st.just("r")), st.builds(Image),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        st.tuples(st.just("user"), st.lists(blocks, max_size=3)),
        st.tuples(st.just("assistant"), st.lists(blocks, max_size=3)),
        st.tuples(st.just("result"), st.sampled_from("abcd")),
        st.just(("reset", None)),
    ),
    max_size=12,
)


@given(steps)
def test_any_transcript_gives_a_well_formed_history(plan: list[tuple[str, object]]) -> None:
    entries: list[Entry] = []
    for number, (kind, what) in enumerate(plan, 1):
        if kind == "reset":
            entries.append(ResetEntry(id=number, ts=NOW))
        elif kind == "result":
            entries.append(result(number, str(what)))
        else:
            assert isinstance(what, list)
            message = sound(Message("user" if kind == "user" else "assistant", tuple(what)))
            entries.append(said(number, message, "p"))
    found = [item.message for item in history(entries)]
    for at, message in enumerate(found):
        calls = [b.id for b in message.content if isinstance(b, ToolCall)] if message.role == "assistant" else []
        results = [b.call_id for b in message.content if isinstance(b, ToolResult)]
        assert message.content
        if calls:
            assert [b.call_id for b in found[at + 1].content if isinstance(b, ToolResult)] == calls
        if results and message.role == "user":
            before = [b.id for b in found[at - 1].content if isinstance(b, ToolCall)]
            assert results == before
    assert call_ids(history(entries)) <= {b.id for m in found for b in m.content if isinstance(b, ToolCall)}
