"""The memory of all tenants: notes kept and forgotten, files followed, and both searched."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, InvalidRequest, NotFound
from carrel.events.hub import Hub
from carrel.ids import RequestId
from carrel.memory import book
from carrel.memory.book import Found, Note
from carrel.store.tenants import TenantDatabases
from carrel.tenancy.handle import Snapshot, Tenant

BATCH: Final = 64
"""Pieces that are embedded with one call."""
AT_ONCE: Final = 512
"""Pieces that are embedded before one search; the rest are before the next ones."""
_WORD: Final = re.compile(r"\w+")
_MAX_WORDS: Final = 32

_log = structlog.get_logger(__name__)


class Files(Protocol):
    """The files that a tenant's agents should remember."""

    async def __call__(self, tenant: Tenant, /) -> Mapping[str, tuple[str, str]]:
        """By name: the agent and the text."""
        ...


class Embeds(Protocol):
    """Turns texts into vectors, as a metered call of the tenant's."""

    async def __call__(
        self, tenant: Tenant, snapshot: Snapshot, model: str, texts: Sequence[str], /, *, request_id: RequestId
    ) -> Sequence[Sequence[float]]:
        """A vector for each text; raises CarrelError."""
        ...


@dataclass(frozen=True, slots=True)
class Hits:
    """What was found; ``note`` says why meaning was left out."""

    found: Sequence[Found]
    note: str = ""


class Memory:
    """One instance, made by the composition root."""

    def __init__(self, *, clock: Clock, hub: Hub, files: Files, embeds: Embeds) -> None:
        self._clock = clock
        self._hub = hub
        self._files = files
        self._embeds = embeds
        self._databases = TenantDatabases(directory="memory", name="memory.sqlite", schema=book.upgrade)

    async def add(self, tenant: Tenant, note_id: str, text: str, *, agent: str | None) -> Note:
        """Keep a note; raises Conflict where there are too many."""
        if not text.strip():
            raise InvalidRequest("There is nothing in that note.", param="text")
        note = Note(note_id, "note", agent, tenant.member, text, self._clock.now())
        await self._databases.run(tenant, lambda c: book.put(c, note))
        self._hub.publish(tenant, "memory.added", {"id": note_id}, own=tenant.own)
        return note

    async def forget(self, tenant: Tenant, note_id: str) -> None:
        """Remove a note; raises NotFound, and InvalidRequest for a file."""
        note = await self._databases.run(tenant, lambda c: book.get(c, note_id))
        if note is None or not _sees(tenant, note):
            raise NotFound("There is no such note.")
        if note.source != "note":
            raise InvalidRequest(f"That is the file {note.source}: change it by agents.files.set.", param="id")
        await self._databases.run(tenant, lambda c: book.forget(c, note_id))
        self._hub.publish(tenant, "memory.forgotten", {"id": note_id}, own=tenant.own)

    async def list(self, tenant: Tenant) -> Sequence[Note]:
        """All notes, and the files as they are now."""
        await self._follow(tenant)
        return [note for note in await self._databases.run(tenant, book.notes) if _sees(tenant, note)]

    async def search(
        self, tenant: Tenant, snapshot: Snapshot, query: str, *, agent: str | None, request_id: RequestId
    ) -> Hits:
        """What is about ``query``, the best first; ``agent`` leaves out what is other agents'."""
        await self._follow(tenant)
        words = _WORD.findall(query)[:_MAX_WORDS]
        match = " OR ".join(f'"{word}"' for word in words)
        meaning, why = await self._meaning(tenant, snapshot, query, request_id)

        def sees(note: Note) -> bool:
            return _sees(tenant, note) and (agent is None or note.agent in (None, agent))

        found = await self._databases.run(tenant, lambda c: book.search(c, match, sees=sees, meaning=meaning))
        return Hits(found, why)

    async def close(self) -> None:
        """Close the databases."""
        await self._databases.close()

    async def _follow(self, tenant: Tenant) -> None:
        files = {
            f"file:{name}": Note(f"file:{name}", name, agent, None, text, datetime.fromtimestamp(0, UTC))
            for name, (agent, text) in (await self._files(tenant)).items()
        }
        await self._databases.run(tenant, lambda c: book.follow(c, files))

    async def _meaning(
        self, tenant: Tenant, snapshot: Snapshot, query: str, request_id: RequestId
    ) -> tuple[tuple[str, Sequence[float]] | None, str]:
        """The query's vector, after what is new has its own; or why there is none."""
        model = tenant.config.memory.embedding_model
        if model is None:
            return None, ""
        try:
            left = AT_ONCE
            while left > 0:
                new = await self._databases.run(tenant, lambda c: book.unembedded(c, model, BATCH))
                if not new:
                    break
                texts = [text for _, text in new]
                vectors = await self._embeds(tenant, snapshot, model, texts, request_id=request_id)
                pairs = [(number, vector) for (number, _), vector in zip(new, vectors, strict=True)]
                await self._databases.run(tenant, lambda c, pairs=pairs: book.embed(c, model, pairs))  # type: ignore[misc] # bound now
                left -= len(new)
            (vector,) = await self._embeds(tenant, snapshot, model, [query], request_id=request_id)
        except CarrelError as error:
            _log.warning("memory is searched by words alone", tenant=tenant.id, reason=error.message)
            return None, f"Searched by words alone: {error.message}"
        return (model, vector), ""


def _sees(tenant: Tenant, note: Note) -> bool:
    return tenant.own is None or note.member in (None, tenant.own)
