"""What a turn answered, found in a transcript: for a caller whose gateway died between the answer and the telling."""

from collections.abc import Sequence

from carrel.agents.entries import Entry, MessageEntry, ModelCallEntry, StoredText, StoredToolCall, ToolCallEntry
from carrel.agents.events import TurnFinished
from carrel.agents.history import since_reset
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId, SessionId


def answer_in(entries: Sequence[Entry], session_id: SessionId, request_id: RequestId) -> TurnFinished | None:
    """The end of the turn of ``request_id``, None where it is not there or was cut off."""
    own = [e for e in since_reset(entries) if getattr(e, "request_id", None) == request_id]
    said = [e for e in own if isinstance(e, MessageEntry) and e.role == "assistant"]
    if not said or said[-1].interrupted or any(isinstance(b, StoredToolCall) for b in said[-1].content):
        return None
    texts = ["".join(b.text for b in e.content if isinstance(b, StoredText)) for e in said]
    calls = [e for e in own if isinstance(e, ModelCallEntry)]
    usage = sum((call.usage for call in calls), TokenCounts())
    first = next(at for at, e in enumerate(entries) if e is own[0])
    last = next((call for call in reversed(calls) if call.outcome == "ok"), None)
    return TurnFinished(
        session_id=session_id,
        text="\n\n".join(text for text in texts if text),
        stop=(last.stop if last is not None else None) or "end",
        usage=usage,
        model=last.model if last is not None else "",
        model_calls=len(calls),
        tool_calls=sum(isinstance(e, ToolCallEntry) for e in entries[first:]),
    )
