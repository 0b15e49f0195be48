"""One line of a tenant's list of sessions, kept up to date as its transcript grows."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, ConfigDict

from carrel.agents.entries import Entry, Header, MessageEntry, ModelCallEntry, ResetEntry
from carrel.declare.rate_card import TokenCounts
from carrel.ids import SessionId


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session without what was said. ``messages`` are those since the last reset; ``usage`` is of all its calls.

    ``size`` is the transcript's in bytes. ``agent`` is empty where the transcript's header is lost. A tenant's sessions
    are all in memory while it is served, and so it is no model of its own, which takes three times as much.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    session_id: SessionId
    agent: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    label: str | None = None
    key: str | None = None
    kind: Literal["direct", "group", "global", "unknown"] = "direct"
    usage: TokenCounts = field(default_factory=TokenCounts)
    model: str | None = None
    messages: int = 0
    size: int = 0

    @classmethod
    def of(cls, session_id: SessionId, header: Header | None, *, fallback: datetime) -> "SessionSummary":
        """The summary of a session whose header is all there is; ``fallback`` is when, where the header is lost."""
        if header is None:
            return cls(session_id=session_id, agent="", created_at=fallback, updated_at=fallback)
        return cls(
            session_id=session_id,
            agent=header.agent,
            created_at=header.created,
            updated_at=header.created,
            label=header.label,
            key=header.key,
        )

    def after(self, entries: Iterable[Entry], *, size: int) -> "SessionSummary":
        """The summary with ``entries`` added and the file at ``size``."""
        usage, model, messages, updated = self.usage, self.model, self.messages, self.updated_at
        for entry in entries:
            match entry:
                case MessageEntry():
                    messages += 1
                case ModelCallEntry():
                    usage += entry.usage
                    model = entry.model if entry.outcome == "ok" and entry.purpose == "turn" else model
                case ResetEntry():
                    messages = 0
                case _:
                    continue
            updated = entry.ts
        return replace(self, usage=usage, model=model, messages=messages, updated_at=updated, size=size)
