"""An agent behind the vendors' endpoints. Its tool calls are its own affair: they never appear as the caller's."""

import hashlib
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from carrel.agents.events import AgentEvent, AnswerDelta, ThinkingPiece, Turn, TurnFinished
from carrel.http.exchange import Exchange
from carrel.http.saying import Kept, say
from carrel.http.streaming import closing
from carrel.ids import SessionId, new_session_id, parse_session_id
from carrel.tenancy.handle import Tenant
from carrel.wire.asked import Asked
from carrel.wire.conversation import (
    AgentRequest,
    Finished,
    Message,
    ModelEvent,
    Text,
    TextDelta,
    ThinkingDelta,
)

SESSION_HEADER: Final = "X-Carrel-Session"


async def agent_answer(
    exchange: Exchange,
    tenant: Tenant,
    agent: str,
    asked: Asked,
    *,
    id: str,  # noqa: A002 - the dialects' name for it
    session: SessionId | None = None,
    kept: Kept | None = None,
) -> web.StreamResponse:
    """One turn of ``agent``, in ``session`` or in the one that the request chooses."""
    taken = asked.to_agent()
    session_id = session_of(exchange, taken, agent) if session is None else session
    events = turn_events(exchange, tenant, agent, taken, session_id)
    return await say(exchange, asked, events, id=id, headers={SESSION_HEADER: session_id}, kept=kept)


def session_of(exchange: Exchange, taken: AgentRequest, agent: str) -> SessionId:
    """The session: the header's, else the one of this user with this agent, else a new one."""
    header = exchange.request.headers.get(SESSION_HEADER)
    if header is not None:
        return parse_session_id(header)
    if taken.user:
        digest = hashlib.sha256(f"{agent}\0{taken.user}".encode()).hexdigest()
        return SessionId(f"u_{digest[:24]}")
    return new_session_id()


async def turn_events(
    exchange: Exchange, tenant: Tenant, agent: str, taken: AgentRequest, session_id: SessionId
) -> AsyncIterator[ModelEvent | None]:
    """A turn as a model's events: its words and thoughts, a None where it works, and its end."""
    turn = Turn(
        agent=agent,
        session_id=session_id,
        messages=taken.messages,
        request_id=exchange.request_id,
        system=taken.system,
        max_tokens=taken.max_tokens,
        temperature=taken.temperature,
    )
    async with closing(exchange.services.agents.run(tenant, exchange.snapshot, turn)) as events:
        async for event in events:
            yield _said(event)


def _said(event: AgentEvent) -> ModelEvent | None:
    match event:
        case AnswerDelta(text):
            return TextDelta(text)
        case ThinkingPiece(text):
            return ThinkingDelta(text)
        case TurnFinished():
            return Finished(Message("assistant", (Text(event.text),)), event.stop, event.usage)
    return None
