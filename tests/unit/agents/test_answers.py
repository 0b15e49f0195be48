"""Answers found again in a transcript."""

from carrel.agents.answers import answer_in
from carrel.agents.entries import Entry, MessageEntry, ModelCallEntry, ResetEntry, stored
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId, SessionId
from carrel.wire.conversation import Block, Message, Text, ToolCall


def message(role: str, *blocks: Block, request: str = "r", interrupted: bool = False) -> MessageEntry:
    content = stored(Message("user" if role == "user" else "assistant", blocks))
    return MessageEntry(
        role="user" if role == "user" else "assistant", content=content, request_id=request, interrupted=interrupted
    )


CALL = ModelCallEntry(
    request_id="r", purpose="turn", model="demo", provider="demo", outcome="ok", stop="end", usage=TokenCounts(input=3)
)


def found(*entries: Entry) -> object:
    answer = answer_in(entries, SessionId("s"), RequestId("r"))
    return None if answer is None else (answer.text, answer.usage.input, answer.model_calls)


def test_the_whole_answer_is_found() -> None:
    asked, call = message("user", Text("q")), message("assistant", Text("first"), ToolCall("c", "shell", "{}"))
    assert found(asked, call, CALL, message("assistant", Text("second")), CALL) == ("first\n\nsecond", 6, 2)


def test_what_did_not_end_is_no_answer() -> None:
    asked = message("user", Text("q"))
    assert found(asked) is None
    assert found(asked, message("assistant", Text("a"), interrupted=True)) is None
    assert found(asked, message("assistant", ToolCall("c", "shell", "{}"))) is None
    assert found(message("user", Text("q"), request="other"), message("assistant", Text("a"), request="other")) is None
    assert found(asked, message("assistant", Text("a")), ResetEntry()) is None
