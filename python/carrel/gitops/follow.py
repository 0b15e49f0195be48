"""Brings the branch's newest commit into force: exported, swapped in, reconciled, and written down with who brought it.

The branch is what counts. A hook that dies, a gateway that was down or was killed in between costs time and no commit:
at the start, when told, and every few seconds, what is in force is held against where the branch is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, Unavailable
from carrel.ids import new_request_id
from carrel.plan.plan import Plan
from carrel.vcs.bare import BY_COMMAND, NONE, Bare
from carrel.vcs.judge import list_commit
from carrel.vcs.revisions import NOTHING, Exported, Revisions
from carrel.vcs.settings import GitSettings
from carrel.wire.control import AuditPage, AuditQuery

LOOK_SECONDS: Final = 2.0
LONGEST_LOOK_SECONDS: Final = 64.0
"""A commit that could not be taken is tried again after twice the time, up to this."""
Before = Callable[[Path], Awaitable[None]]
"""What is done with a revision's directory before it comes into force; raises CarrelError where it has to wait."""
_log = structlog.get_logger(__name__)


class Reconciler(Protocol):
    """Brings a directory of declarations into force."""

    async def move_to(self, directory: Path, digests: Mapping[str, str]) -> Plan:
        """Follow ``directory`` from now on; what that changed. ``digests`` are the SHA-256 of what is in it."""
        ...


class Recorder(Protocol):
    """Writes down who changed what."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str,
        tenant: str | None = None, before: object = None, after: object = None,
    ) -> None: ...  # fmt: skip

    async def page(self, query: AuditQuery) -> AuditPage:
        """Lines that are there."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """A revision that came into force: which, by whom, when, and what it changed."""

    revision: str
    by: str
    at: datetime
    plan: Plan


class Follower:
    """One for a gateway. ``prepare`` it for the first load, ``attach`` the reconciler, run ``watch`` as a task."""

    def __init__(
        self, *, repository: Bare, revisions: Revisions, settings: GitSettings, audit: Recorder, clock: Clock,
        first: Before | None = None,
    ) -> None:  # fmt: skip
        self._repository = repository
        self._revisions = revisions
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._first = first
        self._lock = asyncio.Lock()
        self._reconciler: Reconciler | None = None
        self._taken: Taken | None = None
        self._refused: tuple[str, str] | None = None
        self._waits: str | None = None
        self._blobs: Mapping[str, str] = {}
        self._last: Exported | None = None
        self._notes: Mapping[str, object] = {}
        self._noted: tuple[object, object] | None = None
        self._seen: object = None

    # --- the start ---

    async def prepare(self) -> Path:
        """The directory of the branch's commit, or of nothing: what the gateway starts with."""
        async with self._lock:
            tip = await self._repository.tip()
            exported = await self._exported(tip) if tip is not None else None
            directory = exported.path if exported is not None else None
            if directory is not None and not await self._may_start_with(directory):
                directory = None
            if directory is None:
                kept = await asyncio.to_thread(self._kept)
                directory = kept if kept is not None else await asyncio.to_thread(self._revisions.nothing)
            revision = directory.name
            before = self._revisions.current
            if before != revision:
                await self._record(before)
            await asyncio.to_thread(self._revisions.swap, revision)
            await asyncio.to_thread(self._revisions.tidy, revision)
            self._taken = Taken(revision, await self._by(revision), self._clock.now(), Plan())
            return directory

    async def _may_start_with(self, directory: Path) -> bool:
        """Whether all is done that comes before; otherwise it is tried again while the gateway runs."""
        try:
            await self._ready(directory)
        except CarrelError as error:
            _log.error("the branch's commit waits; it is tried again", reason=error.message)
            return False
        return True

    async def _ready(self, directory: Path) -> None:
        if self._first is None:
            return
        self._waits = "what comes before is being done"
        try:
            await self._first(directory)
        except CarrelError as error:
            self._waits = error.message
            raise
        self._waits = None

    def _kept(self) -> Path | None:
        """What was in force before, where it is still there."""
        current = self._revisions.current
        found = self._revisions.path(current) if current is not None else None
        return found if found is not None and found.is_dir() else None

    def attach(self, reconciler: Reconciler) -> None:
        """Whom to tell from now on."""
        self._reconciler = reconciler

    # --- following ---

    async def watch(self) -> None:
        """Look at the branch for good; cancel it to stop."""
        tried: object = None
        again, wait = 0.0, LOOK_SECONDS
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            seen = await asyncio.to_thread(self._signature)
            if seen == self._seen or (seen == tried and self._clock.monotonic() < again):
                continue
            try:
                await self.take()
            except CarrelError as error:
                _log.error("the branch's commit could not be taken; it is tried again", reason=error.message)
                wait = min(2 * wait, LONGEST_LOOK_SECONDS) if seen == tried else LOOK_SECONDS
                tried, again = seen, self._clock.monotonic() + wait
            else:
                self._seen = seen

    def _signature(self) -> object:
        """What changes when the branch moves, without asking git."""
        found: list[tuple[int, int, int] | None] = []
        for name in (self._repository.ref, "packed-refs"):
            try:
                stat = (self._repository.path / name).stat()
                found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
            except OSError:
                found.append(None)
        return tuple(found)

    async def take(self) -> Taken:
        """Bring the branch's commit into force, if it is not; what is in force then.

        Raises Unavailable where the commit cannot be taken; what was in force stays.
        """
        async with self._lock:
            if self._reconciler is None or self._taken is None:
                raise Unavailable("The gateway is still starting.")
            tip = await self._repository.tip()
            if tip is None or tip == self._taken.revision:
                return self._taken
            try:
                self._taken = await self._take(tip, self._taken.revision, self._reconciler)
            except CarrelError as error:
                self._waits = error.message
                raise
            self._waits = None
            _log.info("revision in force", revision=tip, by=self._taken.by)
            await asyncio.to_thread(self._revisions.tidy, tip)
        await self._repository.tidy()
        return self._taken

    async def _take(self, tip: str, before: str, reconciler: Reconciler) -> Taken:
        exported = await self._exported(tip)
        if exported is None:
            raise Unavailable(f"{tip[:12]} is not taken: {self._refused[1] if self._refused else 'unknown'}")
        await self._ready(exported.path)
        await self._record(before)
        by = await self._by(tip)
        await asyncio.to_thread(self._revisions.swap, tip)
        return Taken(tip, by, self._clock.now(), await reconciler.move_to(exported.path, exported.digests))

    async def _exported(self, commit: str) -> Exported | None:
        """The commit as a directory, None where its tree may not be read: then `_refused` says why.

        What is the same as in the revision that was exported last is neither read from git nor written again.
        """
        found, wrong = await list_commit(self._repository, commit, self._settings.hosted)
        if wrong:
            self._refused = commit, "; ".join(str(problem) for problem in wrong[:5])
            _log.error("commit refused", revision=commit, problems=[str(problem) for problem in wrong[:20]])
            return None
        self._refused = None
        like, blobs = self._last, {name: entry.sha for name, entry in found.items()}
        if like is not None:
            same = [name for name, sha in blobs.items() if self._blobs.get(name) == sha]
            like = await asyncio.to_thread(like.intact, same)
        others = {n: entry for n, entry in found.items() if like is None or n not in like.kept}
        files = await self._repository.blobs(others)
        exported = await asyncio.to_thread(partial(self._revisions.export, commit, files, like=like))
        self._last, self._blobs = exported, blobs
        return exported

    async def _by(self, commit: str) -> str:
        """Who moved the branch there."""
        return next((push.by for push in await self._repository.pushes() if push.new == commit), "git")

    async def _record(self, before: str | None) -> None:
        """A line for every move since ``before``, oldest first; a command's own change has its line already.

        A move has one line, also where its revision was not brought into force then, or a gateway died of it.
        """
        action = f"git.{self._settings.mode}"
        if self._noted is None:
            newest = await self._audit.page(AuditQuery(action=action, order="newest", limit=1))
            self._noted = next(((line["before"], line["after"]) for line in newest.lines), (None, None))
        moves = []
        for push in await self._repository.pushes():
            move = None if push.old == NONE else push.old, push.new
            if push.new == before or move == self._noted:
                break
            moves.append((push, move))
        for push, move in reversed(moves):
            if push.how != BY_COMMAND:
                await self._audit.record(
                    actor=push.by, action=action, target=self._repository.branch, request_id=new_request_id(),
                    outcome="ok", before=move[0], after=move[1],
                )  # fmt: skip
                self._noted = move

    # --- telling ---

    def note(self, **notes: object) -> None:
        """What else `report` should tell: how pulling goes."""
        self._notes = notes

    @property
    def revision(self) -> str | None:
        """The commit in force."""
        return self._taken.revision if self._taken is not None and self._taken.revision != NOTHING else None

    def report(self) -> Mapping[str, object]:
        """As `/v1/status` tells it."""
        taken = self._taken
        told: dict[str, object] = {"mode": self._settings.mode, "branch": self._repository.branch}
        if taken is not None:
            at = taken.at.isoformat(timespec="seconds")
            told |= {"revision": self.revision or "none yet", "by": taken.by, "in_force_since": at}
        if self._refused is not None:
            told |= {"refused": self._refused[0], "reason": self._refused[1]}
        if self._waits is not None and self._refused is None:
            told |= {"waits": self._waits}
        return told | dict(self._notes)
