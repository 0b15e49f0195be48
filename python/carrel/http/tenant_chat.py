"""`POST /v1/tenants/{id}/chat`: a turn with everything in it, tool calls too, as server-sent events."""

from typing import Final

from aiohttp import web

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
from carrel.errors import CarrelError
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.http.streaming import closing, event_stream
from carrel.ids import new_session_id, parse_session_id
from carrel.policy.names import require_agent
from carrel.wire.control import ChatEvent, ChatOrder
from carrel.wire.conversation import Message, Text
from carrel.wire.sse import encode

MAX_BODY: Final = 8 * 1024 * 1024


async def tenant_chat(exchange: Exchange) -> web.StreamResponse:
    """One turn of one of the tenant's agents."""
    tenant = exchange.active_subject()
    order = await exchange.model(ChatOrder, limit=MAX_BODY)
    tenant = tenant.as_member(order.member)
    await exchange.services.meter.admit_request(tenant)
    agent = require_agent(tenant, order.agent)
    session_id = parse_session_id(order.session) if order.session is not None else new_session_id()
    turn = Turn(
        agent=agent,
        session_id=session_id,
        messages=(Message("user", (Text(order.message),)),),
        request_id=exchange.request_id,
    )
    events = exchange.services.agents.run(tenant, exchange.snapshot, turn)
    async with closing(events), event_stream(exchange, {"X-Carrel-Session": session_id}) as stream:
        try:
            first = True
            async for event in events:
                if first:
                    await stream.send(_encode(ChatEvent(kind="session", session=session_id, agent=agent)))
                    first = False
                await stream.send(_encode(render(event)))
        except CarrelError as error:
            if not stream.begun:
                raise
            await stream.send(_encode(ChatEvent(kind="error", code=error.code, text=error.message)))
    return stream.response


def render(event: AgentEvent) -> ChatEvent:
    """``event`` as it goes out."""
    match event:
        case AnswerDelta(text):
            return ChatEvent(kind="text", text=text)
        case ThinkingPiece(text):
            return ChatEvent(kind="thinking", text=text)
        case Notice(text):
            return ChatEvent(kind="notice", text=text)
        case ToolStarted(id, name, arguments):
            return ChatEvent(kind="tool_started", id=id, name=name, arguments=arguments)
        case ToolOutput(id, text):
            return ChatEvent(kind="tool_output", id=id, text=text)
        case ToolFinished(id, name, content, is_error, seconds):
            return ChatEvent(
                kind="tool_finished", id=id, name=name, content=content, is_error=is_error, seconds=round(seconds, 3)
            )
        case TurnFinished():
            return _finished(event)


def _finished(event: TurnFinished) -> ChatEvent:
    usage = event.usage
    return ChatEvent(
        kind="finished",
        session=event.session_id,
        text=event.text,
        stop=event.stop,
        model=event.model,
        tool_calls=event.tool_calls,
        usage={
            "input_tokens": usage.input,
            "cache_read_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "output_tokens": usage.output,
            "reasoning_tokens": usage.reasoning,
        },
    )


def _encode(event: ChatEvent) -> bytes:
    return encode(event.model_dump_json(exclude_none=True), event=event.kind)


ROUTES: Final = (
    Route("POST", "/v1/tenants/{id}/chat", tenant_chat, "act", "A turn, as events with its tool calls.",
          body=ChatOrder, result=ChatEvent, media="text/event-stream"),
)  # fmt: skip
