"""An agent behind OpenAI's chat completions. Its tool calls are its own affair: they never appear as the caller's."""

import hashlib
from collections.abc import AsyncIterator

from aiohttp import web

from carrel.agents.events import AgentEvent, AnswerDelta, ThinkingPiece, Turn, TurnFinished
from carrel.errors import CarrelError, InternalError
from carrel.http.errors import openai_error
from carrel.http.exchange import Exchange
from carrel.http.streaming import EventStream, closing, event_stream
from carrel.ids import SessionId, new_session_id, parse_session_id
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Message, Text
from carrel.wire.openai_chat import ChatRequest, ChatStream, completion, parse, to_agent_request

SESSION_HEADER = "X-Carrel-Session"


async def agent_completion(exchange: Exchange, tenant: Tenant, agent: str, body: bytes) -> web.StreamResponse:
    """One turn of ``agent``."""
    request = parse(body)
    taken = to_agent_request(request)
    session_id = session_of(exchange, request, agent)
    turn = Turn(
        agent=agent,
        session_id=session_id,
        messages=taken.messages,
        request_id=exchange.request_id,
        system=taken.system,
        max_tokens=taken.max_tokens,
        temperature=taken.temperature,
    )
    events = exchange.services.agents.run(tenant, exchange.snapshot, turn)
    if request.stream:
        return await _streamed(exchange, request, events, session_id)
    return await _whole(exchange, request, events, session_id)


def session_of(exchange: Exchange, request: ChatRequest, agent: str) -> SessionId:
    """The session: the header's, else the one of this `user` with this agent, else a new one."""
    header = exchange.request.headers.get(SESSION_HEADER)
    if header is not None:
        return parse_session_id(header)
    if request.user:
        digest = hashlib.sha256(f"{agent}\0{request.user}".encode()).hexdigest()
        return SessionId(f"u_{digest[:24]}")
    return new_session_id()


async def finished_turn(events: AsyncIterator[AgentEvent]) -> TurnFinished:
    """Run a turn to its end; raises what it raises."""
    async with closing(events):
        async for event in events:
            if isinstance(event, TurnFinished):
                return event
    raise InternalError("The agent's turn ended without an answer.")


async def _whole(
    exchange: Exchange, request: ChatRequest, events: AsyncIterator[AgentEvent], session_id: SessionId
) -> web.Response:
    finished = await finished_turn(events)
    answer = completion(
        id=f"chatcmpl-{exchange.request_id}",
        model=request.model,
        created=int(exchange.services.clock.now().timestamp()),
        message=Message("assistant", (Text(finished.text),)),
        stop=finished.stop,
        usage=finished.usage,
    )
    return web.json_response(answer, headers={SESSION_HEADER: session_id})


async def _streamed(
    exchange: Exchange, request: ChatRequest, events: AsyncIterator[AgentEvent], session_id: SessionId
) -> web.StreamResponse:
    chunks = ChatStream(
        id=f"chatcmpl-{exchange.request_id}",
        model=request.model,
        created=int(exchange.services.clock.now().timestamp()),
        include_usage=request.include_usage,
    )
    async with closing(events), event_stream(exchange, {SESSION_HEADER: session_id}) as stream:
        try:
            async for event in events:
                await _send(stream, chunks, event)
        except CarrelError as error:
            if not stream.begun:
                raise
            body = openai_error(error)["error"]
            await stream.send(chunks.error(error.code, error.message, type=body["type"]))
    return stream.response


async def _send(stream: EventStream, chunks: ChatStream, event: AgentEvent) -> None:
    match event:
        case AnswerDelta(text):
            await stream.send(chunks.text(text))
        case ThinkingPiece(text):
            await stream.send(chunks.thinking(text))
        case TurnFinished():
            await stream.send(chunks.finish(event.stop, event.usage))
        case _:
            # A tool runs: the caller sees that somebody is at work, and nothing of what.
            await stream.send(chunks.start())
