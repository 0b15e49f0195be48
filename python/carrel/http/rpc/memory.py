"""`memory.*`: what a tenant's agents should remember."""

from carrel.errors import NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.memory.book import Note
from carrel.policy.names import require_agent
from carrel.wire import rpc_memory as wire


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("memory.search")(search)
    registry.method("memory.list")(list_)
    registry.method("memory.add", changes=True, target="agent_id")(add)
    registry.method("memory.forget", changes=True, target="id")(forget)


async def search(context: Context, params: wire.MemorySearchParams) -> wire.MemoryHits:
    """Search notes and agents' files, by words and, where embeddings are declared, by meaning."""
    if params.agent_id is not None:
        require_agent(context.tenant, params.agent_id)
    hits = await engines(context).memory.search(
        context.tenant, context.snapshot, params.query, agent=params.agent_id, request_id=context.request_id
    )
    return wire.MemoryHits(
        hits=tuple(
            wire.MemoryHit(
                id=hit.note.id, source=hit.note.source, agent_id=hit.note.agent, text=hit.piece,
                score=round(hit.score, 6), by=hit.by,
            )
            for hit in hits.found[: params.limit]
        ),
        note=hits.note,
    )  # fmt: skip


async def list_(context: Context, params: wire.MemoryListParams) -> wire.MemoryNotes:
    """All notes, and agents' files as they are now."""
    found = await engines(context).memory.list(context.tenant)
    page, following = paged(found, lambda note: (note.id,), params)
    return wire.MemoryNotes(notes=tuple(map(_note, page)), next=following)


async def add(context: Context, params: wire.MemoryAddParams) -> wire.MemoryNote:
    """Keep a note."""
    if params.agent_id is not None:
        require_agent(context.tenant, params.agent_id)
    note_id = context.new_id("note")
    return _note(await engines(context).memory.add(context.tenant, note_id, params.text, agent=params.agent_id))


async def forget(context: Context, params: wire.MemoryForgetParams) -> wire.MemoryForgotten:
    """Remove a note."""
    try:
        await engines(context).memory.forget(context.tenant, params.id)
    except NotFound:
        if not context.again:
            raise
    return wire.MemoryForgotten(ok=True, id=params.id)


def _note(note: Note) -> wire.MemoryNote:
    kept = note.source == "note"
    return wire.MemoryNote(
        id=note.id, source=note.source, agent_id=note.agent, member=note.member, text=note.text,
        created_at=int(note.created.timestamp() * 1000) if kept else None,
    )  # fmt: skip
