"""A session in use: its lines in memory, and the one way to add to them."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

from carrel.agents import transcript
from carrel.agents.entries import Entry, Header, encode
from carrel.agents.history import Said, history, messages_in
from carrel.agents.transcript import Loaded, Problem, Sync
from carrel.agents.workers import Workers, to_the_end
from carrel.clock import Clock
from carrel.ids import SessionId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

OWN_SESSIONS: Final = "sessions.d"
"""Members who have sessions of their own have them beside the tenant's, so that nobody's id names another's."""
Written = Callable[[Sequence[Entry], int], None]


def sessions_directory(tenant: Tenant) -> TenantRoot:
    """The directory of the tenant's transcripts, or of a member's own; the caller closes it."""
    own = tenant.own
    path = transcript.DIRECTORY if own is None else f"{OWN_SESSIONS}/member-{own}"
    return tenant.root.directory(path, create=True)


class OpenSession:
    """One session while a turn has it to itself. It has no file before the first line is added.

    ``problems`` are lines of the transcript that were found unreadable just now; ``written`` is told of all that is
    added, with the file's new size.
    """

    def __init__(
        self,
        tenant: Tenant,
        header: Header,
        loaded: Loaded | None,
        *,
        clock: Clock,
        workers: Workers,
        tasks: Tasks,
        written: Written,
        sync: Sync = os.fdatasync,
    ) -> None:
        self.header = header
        self.id = SessionId(header.id)
        self.problems: tuple[Problem, ...] = loaded.unsaid if loaded is not None else ()
        self._tenant = tenant
        self._entries: list[Entry] = list(loaded.entries) if loaded is not None else []
        self._size = loaded.size if loaded is not None else 0
        self._next_id = loaded.next_id if loaded is not None else 1
        self._made = loaded is not None
        self._clock = clock
        self._workers = workers
        self._tasks = tasks
        self._written = written
        self._sync = sync
        self._lock = asyncio.Lock()

    @property
    def entries(self) -> Sequence[Entry]:
        """All lines after the header."""
        return self._entries

    @property
    def begun(self) -> bool:
        """Whether anything was said since the session began or was reset."""
        return bool(messages_in(self._entries))

    @property
    def made(self) -> bool:
        """Whether it is on the disk."""
        return self._made

    @property
    def next_id(self) -> int:
        """The id of the next line."""
        return self._next_id

    def history(self) -> list[Said]:
        """What a model is sent."""
        return history(self._entries)

    async def append(self, *drafts: Entry) -> None:
        """Add lines; returns when they are on the disk, never stopped half-way. Raises StorageFull, adding none."""
        await to_the_end(self._tasks, self._append(drafts), name="append")

    def numbered(self, drafts: Sequence[Entry]) -> list[Entry]:
        """The lines as `append` would write them now."""
        now = self._clock.now()
        return [draft.model_copy(update={"id": self._next_id + at, "ts": now}) for at, draft in enumerate(drafts)]

    async def _append(self, drafts: Sequence[Entry]) -> None:
        async with self._lock:
            lines = self.numbered(drafts)
            self._take(lines, await self._workers.run(lambda: self._write(lines)))

    def _take(self, lines: Sequence[Entry], size: int) -> None:
        self._size = size
        self._made = True
        self._next_id += len(lines)
        self._entries += lines
        self._written(lines, size)

    async def mend(self, loaded: Loaded) -> None:
        """Put the file in order after a torn line or one that cannot be read, and say so in it."""
        notes: list[Entry] = [transcript.torn_note(loaded.torn)] if loaded.torn else []
        notes += [transcript.problem_note(problem) for problem in loaded.unsaid]
        if not notes and not loaded.unended and loaded.size:
            return
        async with self._lock:
            lines = self.numbered(notes)
            self._take(lines, await self._workers.run(lambda: self._mend(loaded, lines)))

    def _write(self, lines: Sequence[Entry]) -> int:
        data = b"".join(encode(line) for line in lines)
        directory = sessions_directory(self._tenant)
        try:
            if not self._made:
                return transcript.create(directory, self.id, encode(self.header) + data)
            return transcript.append(directory, self.id, data, at=self._size, sync=self._sync)
        finally:
            directory.close()

    def _mend(self, loaded: Loaded, lines: Sequence[Entry]) -> int:
        directory = sessions_directory(self._tenant)
        try:
            return transcript.mend(directory, self.id, loaded, self.header, lines, sync=self._sync)
        finally:
            directory.close()
