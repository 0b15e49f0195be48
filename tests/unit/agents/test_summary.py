"""A session's summary is the same whether it grew or was made anew."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from carrel.agents.entries import Entry, Header, MessageEntry, ModelCallEntry, NoteEntry, ResetEntry, StoredText
from carrel.agents.summary import SessionSummary
from carrel.declare.rate_card import TokenCounts
from carrel.ids import SessionId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = Header(id="s1", agent="main", created=NOW, label="notes", key="k")
S1 = SessionId("s1")


def model_call(number: int, *, purpose: str = "turn", model: str = "demo") -> ModelCallEntry:
    return ModelCallEntry(
        id=number, ts=NOW + timedelta(seconds=number), request_id="r", model=model, provider="p", outcome="ok",
        purpose="turn" if purpose == "turn" else "compaction", usage=TokenCounts(input=3, output=2),
    )  # fmt: skip


def message(number: int) -> MessageEntry:
    return MessageEntry(
        id=number, ts=NOW + timedelta(seconds=number), role="user", content=(StoredText(text="x"),)
    )  # fmt: skip


def test_it_says_who_what_and_how_much() -> None:
    compaction = model_call(6, purpose="compaction", model="small")
    entries: list[Entry] = [message(1), model_call(2), ResetEntry(id=3, ts=NOW), message(4), message(5),
                            compaction, NoteEntry(text="x", id=9, ts=NOW)]  # fmt: skip
    summary = SessionSummary.of(S1, HEADER, fallback=NOW).after(entries, size=99)
    assert (summary.agent, summary.label, summary.key, summary.kind) == ("main", "notes", "k", "direct")
    assert (summary.messages, summary.model, summary.size) == (2, "demo", 99)
    assert summary.usage == TokenCounts(input=6, output=4)
    assert summary.updated_at == NOW + timedelta(seconds=6)
    grown = SessionSummary.of(S1, HEADER, fallback=NOW)
    for entry in entries:
        grown = grown.after([entry], size=99)
    assert grown == summary


def test_a_lost_header_leaves_the_agent_open() -> None:
    summary = SessionSummary.of(S1, None, fallback=NOW)
    assert (summary.agent, summary.created_at) == ("", NOW)


def test_it_comes_back_from_its_text() -> None:
    summary = SessionSummary.of(S1, HEADER, fallback=NOW).after([model_call(1)], size=5)
    form = TypeAdapter(SessionSummary)
    text = form.dump_json(summary)
    assert form.validate_json(text) == summary
    for wrong in (text.replace(b'"size":5', b'"size":"5"'), text.replace(b'"size"', b'"sighs"')):
        with pytest.raises(ValidationError):
            form.validate_json(wrong)


def test_a_tenant_may_have_very_many() -> None:
    summary = SessionSummary.of(S1, HEADER, fallback=NOW).after([model_call(1)], size=5)
    assert not hasattr(summary, "__dict__")
