"""A tenant's sessions: made, listed, looked into, reset, removed, and opened by one turn at a time.

Everything hangs off the tenant's handle, so the id of another tenant's session is the id of none. Where members have
what is theirs alone (`sandbox.scope: member`), they have their sessions so too: a handle used for one knows no other's.
"""

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import structlog

from carrel.agents import transcript
from carrel.agents.answers import answer_in
from carrel.agents.entries import Entry, Header, ResetEntry, encode, restored
from carrel.agents.events import TurnFinished
from carrel.agents.history import messages_in
from carrel.agents.session import OpenSession, sessions_directory
from carrel.agents.shelf import Shelf
from carrel.agents.summary import SessionSummary
from carrel.agents.transcript import Loaded, Sync
from carrel.agents.turnstile import Turnstile
from carrel.agents.workers import Workers, to_the_end
from carrel.agents.workspace import remove_workspace, session_workspace
from carrel.clock import Clock
from carrel.errors import Conflict, InvalidRequest, NotFound
from carrel.ids import RequestId, SessionId, TenantId, new_session_id
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot
from carrel.wire.conversation import Image, Message, Text

_log = structlog.get_logger(__name__)
T = TypeVar("T")
_Whose = tuple[TenantId, str | None]
Forgets = Callable[[Tenant, str], None]
"""Removes what is kept of a workspace that is gone. Blocking."""
MAX_PAGE: Final = 1000
MAX_KEY: Final = 512
SHELVES_KEPT: Final = 512
CLOSE_SECONDS: Final = 5.0
REST_SECONDS: Final = 0.05
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, newest first; ``cursor`` asks for the next ones, None at the end."""

    sessions: tuple[SessionSummary, ...]
    cursor: str | None


@dataclass(slots=True)
class _Place:
    """A shelf and the root that it was filled from: another root is another directory."""

    root: TenantRoot
    shelf: Shelf


class Sessions:
    """The sessions of all tenants. One instance, made by the composition root."""

    def __init__(
        self,
        *,
        clock: Clock,
        workers: Workers | None = None,
        turns: Turnstile | None = None,
        sync: Sync = os.fdatasync,
        forgets: Forgets = lambda tenant, workspace: None,
    ) -> None:
        self._clock = clock
        self._workers = workers if workers is not None else Workers()
        self._turns = turns if turns is not None else Turnstile("this session")
        self._makers = Turnstile("the list of sessions", max_waiting=10_000, wait_seconds=60)
        self._sync = sync
        self._forgets = forgets
        self._tasks = Tasks("sessions")
        self._places: OrderedDict[_Whose, _Place] = OrderedDict()

    @property
    def workers(self) -> Workers:
        """The threads that blocking work on tenants' files is done in."""
        return self._workers

    async def close(self) -> None:
        """Wait for what is being written, and stop the threads."""
        await self._tasks.drain(CLOSE_SECONDS)
        await self._tasks.close()
        self._workers.close()

    async def create(
        self,
        tenant: Tenant,
        agent: str,
        *,
        session_id: SessionId | None = None,
        label: str | None = None,
        key: str | None = None,
    ) -> SessionSummary:
        """A new session, on the disk; raises Conflict where the id or the key is taken."""
        chosen = session_id or new_session_id()
        header = Header(id=chosen, agent=agent, created=self._clock.now(), label=label, key=key)
        return await to_the_end(self._tasks, self._create(tenant, header), name="create")

    async def _create(self, tenant: Tenant, header: Header) -> SessionSummary:
        chosen = SessionId(header.id)
        async with self._turns.passing((_whose(tenant), chosen)), self._makers.passing(_whose(tenant)):
            shelf = await self._shelf(tenant)
            if header.key is not None and shelf.by_key(header.agent, header.key) is not None:
                raise Conflict("There is a session of that key already.")
            with shelf.in_use():
                size = await self._in_directory(tenant, lambda d: transcript.create(d, chosen, encode(header)))
                summary = SessionSummary.of(chosen, header, fallback=header.created).after((), size=size)
                shelf.put(summary)
                await self._note(tenant, shelf, chosen)
            return summary

    async def find_or_create(self, tenant: Tenant, agent: str, key: str) -> SessionSummary:
        """The session that ``key`` (a caller's `user`, a channel's conversation) names with ``agent``."""
        if not key or len(key) > MAX_KEY:
            raise InvalidRequest(f"A session's key is 1 to {MAX_KEY} characters.", param="key")
        for _ in range(3):
            found = (await self._shelf(tenant)).by_key(agent, key)
            if found is not None:
                return found
            try:
                return await self.create(tenant, agent, key=key)
            except Conflict:
                continue
        raise Conflict("The session of that key keeps changing.")

    async def list(self, tenant: Tenant) -> Sequence[SessionSummary]:
        """All of them, newest first."""
        return (await self._shelf(tenant)).newest_first()

    async def page(self, tenant: Tenant, *, limit: int = 100, cursor: str | None = None) -> SessionPage:
        """Up to ``limit`` sessions, newest first, after the place that ``cursor`` names."""
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest(f"`limit` is 1 to {MAX_PAGE}.", param="limit")
        found = (await self._shelf(tenant)).newest_first()
        if cursor is not None:
            place = _place(cursor)
            found = [s for s in found if (_micros(s.updated_at), s.session_id) < place]
        page = found[:limit]
        more = len(found) > limit
        return SessionPage(tuple(page), f"{_micros(page[-1].updated_at)}.{page[-1].session_id}" if more else None)

    async def get(self, tenant: Tenant, session_id: SessionId) -> SessionSummary:
        """One session; raises NotFound."""
        found = (await self._shelf(tenant)).sessions.get(session_id)
        if found is None:
            raise _missing()
        return found

    async def preview(self, tenant: Tenant, session_id: SessionId, *, limit: int) -> Sequence[Message]:
        """Its last ``limit`` messages with words or images in them, oldest first; also while a turn runs."""
        await self.get(tenant, session_id)
        loaded = await self._in_directory(tenant, lambda d: transcript.read(d, session_id))
        said = [restored(entry) for entry in messages_in(loaded.entries)]
        shown = [m for m in said if any(isinstance(b, Text | Image) for b in m.content)]
        return shown[-limit:] if limit > 0 else []

    async def said(self, tenant: Tenant, session_id: SessionId) -> tuple[int, Sequence[tuple[str, datetime, str]]]:
        """All messages of a session with words in them (role, when, text), and the size they were read at."""
        await self.get(tenant, session_id)
        loaded = await self._in_directory(tenant, lambda d: transcript.read(d, session_id))
        found = []
        for entry in messages_in(loaded.entries):
            text = "".join(block.text for block in restored(entry).content if isinstance(block, Text))
            if text.strip():
                found.append((entry.role, entry.ts, text))
        return loaded.size, found

    async def answered(self, tenant: Tenant, session_id: SessionId, request_id: RequestId) -> TurnFinished | None:
        """What the turn of that request answered, None where there is no such turn or it did not end by itself."""
        if session_id not in (await self._shelf(tenant)).sessions:
            return None
        loaded = await self._in_directory(tenant, lambda d: transcript.read(d, session_id))
        return answer_in(loaded.entries, session_id, request_id)

    async def put(self, tenant: Tenant, session_id: SessionId, data: bytes, *, replace: bool = False) -> SessionSummary:
        """Take a whole transcript in as that session; waits for a turn that runs.

        Raises Conflict where there is one already and it is not to be replaced.
        """
        return await to_the_end(self._tasks, self._take_in(tenant, session_id, data, replace), name="put")

    async def _take_in(self, tenant: Tenant, session_id: SessionId, data: bytes, replace: bool) -> SessionSummary:
        async with self._turns.passing((_whose(tenant), session_id)), self._makers.passing(_whose(tenant)):
            shelf = await self._shelf(tenant)
            if session_id in shelf.sessions and not replace:
                raise Conflict(
                    "There is a session of that id already: bring it back under another (`--as-session`), or replace "
                    "it (`--replace`)."
                )
            loaded = await self._workers.run(lambda: transcript.parse(data))
            header = loaded.header or Header(id=session_id, agent="", created=self._clock.now())
            of_key = shelf.by_key(header.agent, header.key) if header.key is not None else None
            key = header.key if of_key is None or of_key.session_id == session_id else None
            header = header.model_copy(update={"id": session_id, "key": key})
            text = encode(header) + data[data.find(b"\n") + 1 :] if loaded.header is not None else data
            with shelf.in_use():
                await self._in_directory(tenant, lambda d: d.replace(transcript.file_name(session_id), text))
                shelf.drop(session_id)
                summary = SessionSummary.of(session_id, header, fallback=header.created)
                summary = summary.after(loaded.entries, size=len(text))
                shelf.put(summary)
                await self._note(tenant, shelf, session_id)
            return summary

    async def rest(self, tenant_id: TenantId) -> None:
        """Wait until no turn of the tenant's runs or waits, and forget what is known of its sessions.

        New ones must be kept from beginning by the caller, and the time to wait too.
        """
        while self._turning(tenant_id):  # noqa: ASYNC110 - seldom asked, and turns end in many places
            await asyncio.sleep(REST_SECONDS)
        for whose in [whose for whose in self._places if whose[0] == tenant_id]:
            del self._places[whose]

    def _turning(self, tenant_id: TenantId) -> bool:
        return any(isinstance(key, tuple) and key[0][0] == tenant_id for key in self._turns.inside())

    async def reset(self, tenant: Tenant, session_id: SessionId) -> None:
        """Begin the conversation anew under the same id; waits for a turn that runs. The transcript stays."""
        async with self.open(tenant, session_id) as session:
            await session.append(ResetEntry())

    async def delete(self, tenant: Tenant, session_id: SessionId) -> None:
        """Remove it with its transcript and a workspace of its own; waits for a turn that runs."""
        async with self._turns.passing((_whose(tenant), session_id)):
            await to_the_end(self._tasks, self._delete(tenant, session_id), name="delete")

    async def _delete(self, tenant: Tenant, session_id: SessionId) -> None:
        shelf = await self._shelf(tenant)
        if session_id not in shelf.sessions:
            raise _missing()
        with shelf.in_use():
            await self._in_directory(tenant, lambda d: d.remove(transcript.file_name(session_id)))
            shelf.drop(session_id)
            await self._note(tenant, shelf, session_id)
        if tenant.own is None:
            await self._workers.run(lambda: self._remove_workspace(tenant, session_workspace(session_id)))

    def _remove_workspace(self, tenant: Tenant, workspace: str) -> None:
        remove_workspace(tenant.root, workspace)
        self._forgets(tenant, workspace)

    @asynccontextmanager
    async def open(
        self, tenant: Tenant, session_id: SessionId, *, agent: str | None = None, create: bool = False
    ) -> AsyncIterator[OpenSession]:
        """The session, to itself for as long as the block lasts; turns wait for each other in the order of coming.

        ``create``: where there is none it begins, with ``agent``, at the first line that is added. Raises NotFound,
        and Conflict where it is another agent's.
        """
        async with self._turns.passing((_whose(tenant), session_id)):
            shelf = await self._shelf(tenant)
            with shelf.in_use():
                session = await self._opened(tenant, shelf, session_id, agent, create)
                try:
                    yield session
                finally:
                    if session.made:
                        await self._note(tenant, shelf, session_id)

    async def _opened(
        self, tenant: Tenant, shelf: Shelf, session_id: SessionId, agent: str | None, create: bool
    ) -> OpenSession:
        loaded: Loaded | None = None
        if session_id in shelf.sessions:
            loaded = await self._in_directory(tenant, lambda d: transcript.read(d, session_id))
        elif not create or agent is None:
            raise _missing()
        known = shelf.sessions.get(session_id)
        header = (loaded.header if loaded is not None else None) or Header(
            id=session_id,
            agent=agent or (known.agent if known is not None else ""),
            created=known.created_at if known is not None else self._clock.now(),
        )
        if agent is not None and header.agent not in ("", agent):
            raise Conflict(f"That session is of the agent {header.agent!r}; begin a new one for {agent!r}.")

        def written(entries: Sequence[Entry], size: int) -> None:
            before = shelf.sessions.get(session_id)
            before = before or SessionSummary.of(session_id, header, fallback=header.created)
            shelf.put(before.after(entries, size=size))

        session = OpenSession(
            tenant,
            header,
            loaded,
            clock=self._clock,
            workers=self._workers,
            tasks=self._tasks,
            written=written,
            sync=self._sync,
        )
        if loaded is not None:
            for problem in loaded.unsaid:
                _log.warning("a line of a transcript cannot be read", tenant=tenant.id, session=session_id,
                             line=problem.line)  # fmt: skip
            await session.mend(loaded)
        return session

    async def _shelf(self, tenant: Tenant) -> Shelf:
        whose = _whose(tenant)
        place = self._places.get(whose)
        if place is None or (place.root is not tenant.root and not place.shelf.busy):
            async with self._makers.passing((_whose(tenant), "load")):
                place = self._places.get(whose)
                if place is None or (place.root is not tenant.root and not place.shelf.busy):
                    shelf = Shelf()
                    await self._in_directory(tenant, shelf.load)
                    place = self._places[whose] = _Place(tenant.root, shelf)
                    self._let_go()
        self._places.move_to_end(whose)
        return place.shelf

    def _let_go(self) -> None:
        """Forget the shelves of tenants that were not seen for long; their transcripts know it all."""
        for whose in list(self._places)[: max(0, len(self._places) - SHELVES_KEPT)]:
            if not self._places[whose].shelf.busy:
                del self._places[whose]

    async def _note(self, tenant: Tenant, shelf: Shelf, session_id: SessionId) -> None:
        async with self._makers.passing((_whose(tenant), "note")):
            await self._in_directory(tenant, lambda d: shelf.note(d, session_id))

    async def _in_directory(self, tenant: Tenant, work: Callable[[TenantRoot], T]) -> T:
        def done() -> T:
            directory = sessions_directory(tenant)
            try:
                return work(directory)
            finally:
                directory.close()

        return await self._workers.run(done)


def _whose(tenant: Tenant) -> _Whose:
    """Whose sessions these are: the tenant's, or a member's own."""
    return tenant.id, tenant.own


def _missing() -> NotFound:
    return NotFound("No such session.")


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _place(cursor: str) -> tuple[int, str]:
    micros, dot, session_id = cursor.partition(".")
    if not (dot and session_id and micros.isascii() and micros.isdigit() and len(cursor) < 200):
        raise InvalidRequest("That cursor is none of ours: leave it out to begin with the newest.", param="cursor")
    return int(micros), session_id
