"""`sessions.*`."""

from collections.abc import Sequence
from datetime import timedelta

from carrel.agents.events import Notice, ToolFinished, Turn, TurnFinished
from carrel.errors import CarrelError, InternalError, InvalidRequest, NotFound
from carrel.http.names import require_agent
from carrel.http.rpc.registry import Context, Registry
from carrel.http.services import SessionSummary
from carrel.http.streaming import closing
from carrel.ids import SessionId, new_session_id, parse_session_id
from carrel.wire import rpc
from carrel.wire.conversation import Message, Text


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("sessions.create")(create)
    registry.method("sessions.list")(list_sessions)
    registry.method("sessions.preview")(preview)
    registry.method("sessions.send")(send)
    registry.method("sessions.reset")(reset)
    registry.method("sessions.delete")(delete)


async def create(context: Context, params: rpc.SessionsCreateParams) -> rpc.SessionCreated:
    """Make a session."""
    agent = require_agent(context.tenant, params.agent)
    wanted = parse_session_id(params.session_id) if params.session_id is not None else None
    made = await context.services.sessions.create(context.tenant, agent, session_id=wanted, label=params.label)
    return rpc.SessionCreated(session_id=made.session_id, key=made.session_id, agent=made.agent)


async def list_sessions(context: Context, params: rpc.SessionsListParams) -> rpc.SessionList:
    """The tenant's sessions, newest first."""
    now = context.services.clock.now()
    found = [s for s in await context.services.sessions.list(context.tenant) if _matches(s, params)]
    if params.active_minutes is not None:
        since = now - timedelta(minutes=params.active_minutes)
        found = [s for s in found if s.updated_at >= since]
    entries = []
    for summary in found[: params.limit]:
        last = None
        if params.include_last_message or params.include_derived_titles:
            last = await context.services.sessions.preview(context.tenant, summary.session_id, limit=1)
        entries.append(_entry(summary, last, params))
    return rpc.SessionList(
        ts=int(now.timestamp() * 1000), count=len(entries), defaults=_defaults(context), sessions=tuple(entries)
    )


async def preview(context: Context, params: rpc.SessionsPreviewParams) -> rpc.SessionPreviews:
    """The last messages of sessions, shortened."""
    previews = [await _preview(context, key, params) for key in params.keys]
    return rpc.SessionPreviews(ts=int(context.services.clock.now().timestamp() * 1000), previews=tuple(previews))


async def send(context: Context, params: rpc.SessionsSendParams) -> rpc.Sent:
    """Say something to an agent and wait for its answer."""
    named = _named(params.session_id, params.key)
    session_id = named or new_session_id()
    agent = await _agent_of(context, session_id, params.agent)
    turn = Turn(
        agent=agent,
        session_id=session_id,
        messages=(Message("user", (Text(params.message),)),),
        request_id=context.request_id,
        create=named is None,
    )
    tools: list[rpc.SentToolCall] = []
    notices: list[str] = []
    async with closing(context.services.agents.run(context.tenant, context.snapshot, turn)) as events:
        async for event in events:
            match event:
                case ToolFinished(id, name, _, is_error, seconds):
                    tools.append(rpc.SentToolCall(id=id, name=name, is_error=is_error, duration_ms=int(seconds * 1000)))
                case Notice(text):
                    notices.append(text)
                case TurnFinished():
                    return _sent(event, agent, tools, notices)
    raise InternalError("The agent's turn ended without an answer.")


async def reset(context: Context, params: rpc.SessionParams) -> rpc.SessionDone:
    """Begin a session's conversation anew."""
    session_id = _required(params)
    await context.services.sessions.reset(context.tenant, session_id)
    return rpc.SessionDone(ok=True, session_id=session_id)


async def delete(context: Context, params: rpc.SessionParams) -> rpc.SessionDone:
    """Remove a session with its transcript."""
    session_id = _required(params)
    await context.services.sessions.delete(context.tenant, session_id)
    return rpc.SessionDone(ok=True, session_id=session_id)


def _sent(event: TurnFinished, agent: str, tools: Sequence[rpc.SentToolCall], notices: Sequence[str]) -> rpc.Sent:
    usage = event.usage
    return rpc.Sent(
        session_id=event.session_id,
        agent=agent,
        text=event.text,
        stop=event.stop,
        model=event.model,
        usage=rpc.SentUsage(
            input_tokens=usage.input,
            cache_read_tokens=usage.cache_read,
            cache_write_tokens=usage.cache_write,
            output_tokens=usage.output,
            reasoning_tokens=usage.reasoning,
            total_tokens=usage.total,
        ),
        tool_calls=tuple(tools),
        notices=tuple(notices),
    )


async def _agent_of(context: Context, session_id: SessionId, wanted: str | None) -> str:
    """The agent asked for, else the one that the session has, else the default one."""
    if wanted is None:
        for summary in await context.services.sessions.list(context.tenant):
            if summary.session_id == session_id:
                return summary.agent
    return require_agent(context.tenant, wanted)


def _named(session_id: str | None, key: str | None) -> SessionId | None:
    if session_id is not None and key is not None and session_id != key:
        raise InvalidRequest("`sessionId` and `key` name two sessions; send one of them.", param="key")
    text = session_id if session_id is not None else key
    return None if text is None else parse_session_id(text)


def _required(params: rpc.SessionParams) -> SessionId:
    named = _named(params.session_id, params.key)
    if named is None:
        raise InvalidRequest("`sessionId` is missing.", param="sessionId")
    return named


def _matches(summary: SessionSummary, params: rpc.SessionsListParams) -> bool:
    if params.agent_id is not None and summary.agent != params.agent_id:
        return False
    if params.label is not None and summary.label != params.label:
        return False
    return params.search is None or params.search.lower() in f"{summary.session_id} {summary.label or ''}".lower()


def _entry(summary: SessionSummary, last: Sequence[Message] | None, params: rpc.SessionsListParams) -> rpc.SessionEntry:
    said = _text(last[-1]) if last else None
    usage = summary.usage
    return rpc.SessionEntry(
        key=summary.session_id,
        session_id=summary.session_id,
        agent_id=summary.agent,
        label=summary.label,
        display_name=summary.label or (said[:60] if said and params.include_derived_titles else None),
        updated_at=int(summary.updated_at.timestamp() * 1000),
        created_at=int(summary.created_at.timestamp() * 1000),
        input_tokens=usage.input + usage.cache_read + usage.cache_write,
        output_tokens=usage.output + usage.reasoning,
        total_tokens=usage.total,
        model=summary.model,
        message_count=summary.messages,
        last_message=said[:240] if said and params.include_last_message else None,
    )


async def _preview(context: Context, key: str, params: rpc.SessionsPreviewParams) -> rpc.SessionPreview:
    try:
        messages = await context.services.sessions.preview(context.tenant, parse_session_id(key), limit=params.limit)
    except (NotFound, InvalidRequest):
        return rpc.SessionPreview(key=key, status="missing")
    except CarrelError:
        return rpc.SessionPreview(key=key, status="error")
    items = tuple(rpc.PreviewItem(role=m.role, text=text[: params.max_chars]) for m in messages if (text := _text(m)))
    return rpc.SessionPreview(key=key, status="ok" if items else "empty", items=items)


def _text(message: Message) -> str:
    return "".join(block.text for block in message.content if isinstance(block, Text))


def _defaults(context: Context) -> rpc.SessionDefaults:
    name = context.snapshot.gateway.default_model
    model = context.snapshot.model(name) if name is not None else None
    if model is None:
        return rpc.SessionDefaults(model=name)
    return rpc.SessionDefaults(model_provider=model.provider, model=name, context_tokens=model.context_window)
