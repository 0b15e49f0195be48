"""`sessions.*`."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from carrel.agents.events import Turn
from carrel.agents.sends import Said
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.http.services import SessionSummary
from carrel.ids import SessionId, parse_session_id
from carrel.policy.names import require_agent
from carrel.wire import rpc
from carrel.wire import rpc_agents as wire
from carrel.wire.conversation import Message, Text


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("sessions.create", changes=True, target="session_id")(create)
    registry.method("sessions.list")(list_sessions)
    registry.method("sessions.preview")(preview)
    registry.method("sessions.send", changes=True)(send)
    registry.method("sessions.cancel", changes=True, target="session_id")(cancel)
    registry.method("sessions.search")(search)
    registry.method("sessions.compact", changes=True, target="session_id")(compact)
    registry.method("sessions.reset", changes=True, target="session_id")(reset)
    registry.method("sessions.delete", changes=True, target="session_id")(delete)


async def create(context: Context, params: rpc.SessionsCreateParams) -> rpc.SessionCreated:
    """Make a session."""
    agent = require_agent(context.tenant, params.agent)
    wanted = parse_session_id(params.session_id or context.new_id("s"))
    try:
        made = await context.services.sessions.create(context.tenant, agent, session_id=wanted, label=params.label)
    except Conflict:
        if not context.again:
            raise
        return rpc.SessionCreated(session_id=wanted, key=wanted, agent=agent)
    _tell(context, made.session_id, "created")
    return rpc.SessionCreated(session_id=made.session_id, key=made.session_id, agent=made.agent)


async def list_sessions(context: Context, params: rpc.SessionsListParams) -> rpc.SessionList:
    """The tenant's sessions, newest first."""
    now = context.services.clock.now()
    found = [s for s in await context.services.sessions.list(context.tenant) if _matches(s, params)]
    if params.active_minutes is not None:
        since = now - timedelta(minutes=params.active_minutes)
        found = [s for s in found if s.updated_at >= since]
    page, following = paged(found, _place, params, newest_first=True)
    entries = []
    for summary in page:
        last = None
        if params.include_last_message or params.include_derived_titles:
            last = await context.services.sessions.preview(context.tenant, summary.session_id, limit=1)
        entries.append(_entry(summary, last, params))
    return rpc.SessionList(
        ts=int(now.timestamp() * 1000), count=len(entries), defaults=_defaults(context), sessions=tuple(entries),
        next=following,
    )  # fmt: skip


async def preview(context: Context, params: rpc.SessionsPreviewParams) -> rpc.SessionPreviews:
    """The last messages of sessions, shortened."""
    previews = [await _preview(context, key, params) for key in params.keys]
    return rpc.SessionPreviews(ts=int(context.services.clock.now().timestamp() * 1000), previews=tuple(previews))


async def send(context: Context, params: rpc.SessionsSendParams) -> rpc.Sent:
    """Say something to an agent and wait for its answer."""
    named = _named(params.session_id, params.key)
    session_id = named or parse_session_id(context.new_id("s"))
    agent = await _agent_of(context, session_id, params.agent)
    if context.again:
        # The gateway died after the answer was written down and before it was told.
        answer = await context.services.sessions.answered(context.tenant, session_id, context.request_id)
        if answer is not None:
            return _sent(Said(answer), agent)
    turn = Turn(
        agent=agent,
        session_id=session_id,
        messages=(Message("user", (Text(params.message),)),),
        request_id=context.request_id,
        create=named is None,
        again=context.again,
    )
    return _sent(await context.services.sends.send(context.tenant, context.snapshot, turn), agent)


async def cancel(context: Context, params: rpc.SessionParams) -> rpc.SessionCancelled:
    """Cancel what `sessions.send` runs or waits for in a session; what was said until then is kept."""
    session_id = _required(params)
    return rpc.SessionCancelled(
        session_id=session_id, cancelled=context.services.sends.cancel(context.tenant, session_id)
    )


async def reset(context: Context, params: rpc.SessionParams) -> rpc.SessionDone:
    """Begin a session's conversation anew."""
    session_id = _required(params)
    await context.services.sessions.reset(context.tenant, session_id)
    _tell(context, session_id, "reset")
    return rpc.SessionDone(ok=True, session_id=session_id)


async def delete(context: Context, params: rpc.SessionParams) -> rpc.SessionDone:
    """Remove a session with its transcript."""
    session_id = _required(params)
    try:
        await context.services.sessions.delete(context.tenant, session_id)
    except NotFound:
        if not context.again:
            raise
    _tell(context, session_id, "deleted")
    return rpc.SessionDone(ok=True, session_id=session_id)


async def search(context: Context, params: wire.SessionsSearchParams) -> wire.SearchHits:
    """Search what was said in the tenant's sessions, in full text."""
    session_id = parse_session_id(params.session_id) if params.session_id is not None else None
    found = await engines(context).search.search(
        context.tenant, params.query, agent=params.agent_id, session_id=session_id
    )
    page, following = paged(list(enumerate(found)), lambda numbered: (f"{numbered[0]:06d}",), params)
    return wire.SearchHits(
        hits=tuple(
            wire.SearchHit(
                session_id=hit.session_id, agent_id=hit.agent, role=hit.role, ts=int(hit.at.timestamp() * 1000),
                snippet=hit.snippet, score=round(hit.score, 6),
            )
            for _, hit in page
        ),
        next=following,
    )  # fmt: skip


async def compact(context: Context, params: rpc.SessionParams) -> wire.SessionCompacted:
    """Fold up all but the newest of a session into a summary now."""
    session_id = _required(params)
    done = await context.services.agents.compact(
        context.tenant, context.snapshot, session_id, request_id=context.request_id
    )
    if done is None:
        return wire.SessionCompacted(session_id=session_id, compacted=False)
    return wire.SessionCompacted(
        session_id=session_id, compacted=True, messages=done.messages, tokens_before=done.tokens_before
    )


def _tell(context: Context, session_id: SessionId, what: str) -> None:
    context.services.hub.publish(
        context.tenant, f"session.{what}", {"sessionId": session_id}, own=context.tenant.own
    )  # fmt: skip


def _sent(said: Said, agent: str) -> rpc.Sent:
    event, usage = said.finished, said.finished.usage
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
        tool_calls=tuple(
            rpc.SentToolCall(id=t.id, name=t.name, is_error=t.is_error, duration_ms=int(t.seconds * 1000))
            for t in said.tools
        ),
        notices=said.notices,
    )


async def _agent_of(context: Context, session_id: SessionId, wanted: str | None) -> str:
    """The agent asked for, else the one that the session has, else the default one."""
    if wanted is None:
        with suppress(NotFound):
            return (await context.services.sessions.get(context.tenant, session_id)).agent
    return require_agent(context.tenant, wanted)


def _place(summary: SessionSummary) -> tuple[str, str]:
    return f"{int(summary.updated_at.timestamp() * 1_000_000):020d}", summary.session_id


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
