"""Turns as events: whatever edge a turn came by, those who listen to its tenant hear of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final, Protocol

from carrel.agents.compactor import Compacted
from carrel.agents.events import (
    AgentEvent,
    AnswerDelta,
    Notice,
    ThinkingPiece,
    ToolFinished,
    ToolOutput,
    ToolStarted,
    Turn,
    TurnFinished,
)
from carrel.agents.streams import closing
from carrel.errors import CarrelError
from carrel.events.hub import Hub
from carrel.ids import RequestId, SessionId
from carrel.tenancy.handle import Snapshot, Tenant

MOST: Final = 16_384
"""Characters of a tool's result or arguments that an event carries; the transcript has all of it."""


class Runs(Protocol):
    """Runs turns."""

    async def compact(
        self, tenant: Tenant, snapshot: Snapshot, session_id: SessionId, *, request_id: RequestId
    ) -> Compacted | None:
        """See `agents.run`."""
        ...

    def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncIterator[AgentEvent]:
        """See `agents.run`."""
        ...


class ToldAgents:
    """Runs turns as ``agents`` does, and tells each event to ``hub`` before whoever asked for the turn reads it."""

    def __init__(self, agents: Runs, hub: Hub) -> None:
        self._agents = agents
        self._hub = hub

    async def compact(
        self, tenant: Tenant, snapshot: Snapshot, session_id: SessionId, *, request_id: RequestId
    ) -> Compacted | None:
        """See `agents.run.Agents.compact`."""
        done = await self._agents.compact(tenant, snapshot, session_id, request_id=request_id)
        if done is not None:
            about = {"sessionId": session_id, "messages": done.messages}
            self._hub.publish(tenant, "session.compacted", about, own=tenant.own)
        return done

    async def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """See `agents.run.Agents.run`."""
        about = {"sessionId": turn.session_id, "agent": turn.agent, "requestId": turn.request_id}

        def tell(kind: str, payload: Mapping[str, Any]) -> None:
            self._hub.publish(tenant, f"session.{kind}", {**about, **payload}, own=tenant.own)

        tell("started", {})
        ending: tuple[str, dict[str, Any]] | None = ("cancelled", {})
        try:
            async with closing(self._agents.run(tenant, snapshot, turn)) as events:
                async for event in events:
                    if isinstance(event, TurnFinished):
                        ending = None
                    tell(*told(event))
                    yield event
        except CarrelError as error:
            ending = "failed", {"code": error.code, "message": error.message}
            raise
        finally:
            if ending is not None:
                tell(*ending)


def told(event: AgentEvent) -> tuple[str, dict[str, Any]]:
    """The kind and the payload of ``event``."""
    match event:
        case AnswerDelta(text):
            return "text", {"text": text}
        case ThinkingPiece(text):
            return "thinking", {"text": text}
        case Notice(text):
            return "notice", {"text": text}
        case ToolStarted(id, name, arguments):
            return "tool.started", {"id": id, "name": name, "arguments": arguments[:MOST]}
        case ToolOutput(id, text):
            return "tool.output", {"id": id, "text": text[:MOST]}
        case ToolFinished(id, name, content, is_error, seconds):
            return "tool.finished", {
                "id": id, "name": name, "content": content[:MOST], "isError": is_error,
                "durationMs": int(seconds * 1000),
            }  # fmt: skip
        case TurnFinished():
            return "finished", {
                "text": event.text, "stop": event.stop, "model": event.model, "toolCalls": event.tool_calls,
                "totalTokens": event.usage.total,
            }  # fmt: skip
