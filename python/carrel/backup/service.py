"""Backups and restores of the tenants of a gateway that runs. One at a time for each tenant."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry

from carrel import __version__
from carrel.backup import swap
from carrel.backup.archives import SCRATCH, Archives
from carrel.backup.catalogue import MOST_DAMAGED_LISTED, BackupInfo, Origin
from carrel.backup.house import House
from carrel.backup.jobs import Job, Jobs, in_thread
from carrel.backup.keyfile import Keys, NoRepository
from carrel.backup.metrics import BackupMetrics
from carrel.backup.note import Note, read_note, write_note
from carrel.backup.progress import Progress
from carrel.backup.reader import verify
from carrel.backup.rebuilding import list_of
from carrel.backup.repository import Repository
from carrel.backup.restore import NO_SESSION, Restored, chosen, fetch_one, look, look_at_one, prepare
from carrel.backup.retention import Collected, collect
from carrel.backup.run import Means, Subject, back_up, clear_scratch
from carrel.backup.target import Secrets, keep_of, location_of, options_of
from carrel.clock import Clock
from carrel.declare.backup import BackupConfig, KeepBackups
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.ids import SessionId, TenantId
from carrel.objects.location import Location
from carrel.objects.open import open_store
from carrel.objects.pace import Pace
from carrel.objects.protocol import StoreUnavailable
from carrel.objects.retry import Patience
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.removal import remove_tree

LIST_SECONDS: Final = 50.0
"""How long a list of backups is waited for; a call of the store that has begun goes on to its own end."""
_log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class From:
    """Which backup. ``place`` is where, None what is declared; ``tenant`` whose, ``backup`` its id, the newest by
    default. ``anywhere``: who asks may name any place. ``skip_damaged``: what is not whole there is left out."""

    place: str | None = None
    tenant: TenantId | None = None
    backup: str | None = None
    anywhere: bool = False
    skip_damaged: bool = False


NEWEST: Final = From()
"""The newest backup of a tenant's own, where it is declared to be."""


class Backups:
    """One for a gateway; `clear_left` comes first. `close` stops what runs; the next time goes on from there."""

    def __init__(
        self,
        *,
        state_dir: Path,
        directory: Directory,
        clock: Clock,
        keys: Keys,
        secrets: Secrets,
        house: House,
        patience: Patience | None = None,
        metrics: BackupMetrics | None = None,
    ) -> None:
        self._metrics = metrics or BackupMetrics(CollectorRegistry(), clock)
        self._home = state_dir / "tenants"
        self._scratch = state_dir / "run" / SCRATCH
        self._directory = directory
        self._clock = clock
        self._keys = keys
        self._secrets = secrets
        self._house = house
        self._patience = patience
        self._jobs = Jobs(self._metrics, rate=lambda: self._declared.bytes_per_second)
        self._proven: set[str] = set()
        self._host = socket.gethostname()[:256]
        self.archives = Archives(
            state_dir=state_dir, directory=directory, clock=clock, keys=keys, secrets=secrets, house=house,
            jobs=self._jobs, patience=patience, proven=self._proven,
        )  # fmt: skip

    def close(self) -> None:
        """Stop what runs."""
        self._jobs.close()

    def running(self, tenant: TenantId) -> Progress | None:
        """How far what runs for the tenant is."""
        return self._jobs.running(tenant)

    def stop(self, tenant: TenantId) -> None:
        """End what runs for the tenant, with Cancelled for who waits for it; a swap that has begun is not stopped.

        Raises NotFound where nothing runs.
        """
        self._jobs.stop(tenant)

    async def note(self, tenant: Tenant) -> Note:
        """When it was backed up last."""
        note = await asyncio.to_thread(read_note, tenant.root)
        self._metrics.known(tenant.id, note)
        return note

    def forget(self, tenant: TenantId) -> None:
        """The tenant is gone: no monitor need wait for its next backup."""
        self._metrics.forget(tenant)

    # --- backing up ---

    async def back_up(
        self, tenant: Tenant, *, to: str | None = None, keep: KeepBackups | None = None, anywhere: bool = False
    ) -> BackupInfo:
        """Back a tenant up now, and remove what need not stay, by ``keep`` where the tenant's file says nothing of it.

        Raises what the store and the vault raise, NoTarget, and Conflict where something of that kind runs for it
        already.
        """
        location = location_of(self._declared, to, anywhere=anywhere)
        async with self._jobs.hold(tenant.id) as job:
            origin = Origin(
                host=self._host, carrel=__version__, revision=tenant.revision,
                declared=self._directory.current.revision, commit=await self._house.commit(),
            )  # fmt: skip
            await self._house.flush(tenant)
            now, began = self._clock.now(), self._clock.monotonic()
            try:
                info, collected = await self._in_thread(
                    job, location, lambda means: self._backed_up(tenant, origin, means, job.progress, keep)
                )
            except CarrelError as error:
                self._metrics.failed(tenant.id, "backup", error.code)
                await asyncio.to_thread(_noted, tenant, tried=now, failed=error.message)
                raise
            self._metrics.made(tenant.id, info, seconds=self._clock.monotonic() - began)
            if info.damaged:
                self._metrics.failed(tenant.id, "backup", "damaged")
                _log.error("files are damaged, and in the backup as they are", tenant=tenant.id, backup=info.id,
                           files=info.damaged)  # fmt: skip
            await asyncio.to_thread(
                _noted, tenant, last=now, id=info.id, to=str(location), tried=now, failed=None, damaged=False
            )  # fmt: skip
        _log.info("backed up", tenant=tenant.id, backup=info.id, files=info.files, bytes=info.bytes, sent=info.sent,
                  left_out=info.left_out, removed=len(collected.backups))  # fmt: skip
        return info

    def _backed_up(
        self, tenant: Tenant, origin: Origin, means: Means, progress: Progress, asked: KeepBackups | None
    ) -> tuple[BackupInfo, Collected]:
        subject = Subject(tenant.id, tenant.root.fd, tenant.root.owner, origin)
        info = back_up(subject, means, progress, anew=read_note(tenant.root).damaged)
        repository = Repository.at(means.store, tenant.id, means.keys)
        try:
            collected = collect(repository, keep_of(self._declared, tenant.config.backup, asked), means)
        except CarrelError as error:
            # The backup is made; what is old is removed after the next one.
            _log.warning("old backups could not be removed", tenant=tenant.id, error=error.message)
            collected = Collected()
        return info, collected

    async def final(self, tenant: Tenant) -> BackupInfo:
        """The last backup of a tenant that is about to go; when this returns it is in the store, read back and whole.

        Raises what `back_up` raises, NoTarget where nothing says where to: then the tenant should stay.
        """
        info = await self.back_up(tenant)
        problems = await self.verify(tenant, From(backup=info.id))
        if problems:
            raise CarrelError(f"The last backup of {tenant.id} does not read back: {problems[0]}")
        return info

    # --- looking ---

    async def listed(self, tenant: TenantId, source: From = NEWEST) -> list[BackupInfo]:
        """Its backups, newest first."""

        def work(means: Means) -> list[BackupInfo]:
            try:
                head, _ = list_of(Repository.at(means.store, source.tenant or tenant, means.keys))
            except NoRepository:
                return []
            return list(reversed(head.backups))

        try:
            # Somebody waits for this, and for no longer than two minutes.
            async with asyncio.timeout(LIST_SECONDS):
                return await self._looking(source, work)
        except TimeoutError:
            place = location_of(self._declared, source.place, anywhere=source.anywhere)
            raise StoreUnavailable(f"{place} did not answer within {LIST_SECONDS:g} s.") from None

    async def verify(self, tenant: Tenant, source: From = NEWEST) -> list[str]:
        """Read a backup back, the newest by default; a sentence for each thing that is wrong with it."""
        async with self._jobs.hold(tenant.id) as job:
            location = location_of(self._declared, source.place, anywhere=source.anywhere)

            def work(means: Means) -> tuple[list[str], list[str], bool]:
                repository = Repository.at(means.store, source.tenant or tenant.id, means.keys)
                head, list_wrong = list_of(repository)
                wanted = chosen(repository, source.backup)
                found = verify(repository, wanted.id, job.progress)
                newest = wanted.id == head.backups[-1].id
                wrong = (repository.wrong, f"{list_wrong}: the next backup mends it." if list_wrong else "")
                return [one for one in wrong if one], found, newest

            with self._jobs.counted(tenant.id, "verify"):
                wrong, found, newest = await self._in_thread(job, location, work)
            problems = [*wrong, *found]
            if not problems and newest and source.tenant in (None, tenant.id):
                self._metrics.verified(tenant.id)
                await asyncio.to_thread(_noted, tenant, verified=self._clock.now())
        if problems:
            self._metrics.failed(tenant.id, "verify", "damaged")
        if found:
            # The next backup relies on nothing that is there, and so mends what can be mended.
            await asyncio.to_thread(_noted, tenant, damaged=True)
        for problem in problems:
            _log.error("a backup does not read back", tenant=tenant.id, problem=problem)
        return problems

    async def collect(
        self, tenant: Tenant, *, place: str | None = None, keep: KeepBackups | None = None, anywhere: bool = False
    ) -> Collected:
        """Remove what need not stay, as `back_up` does, and pieces that nothing refers to.

        What exports left there that broke off, and of which nothing came for a day, is ended too.
        """
        async with self._jobs.hold(tenant.id) as job:
            location = location_of(self._declared, place, anywhere=anywhere)
            stay = keep_of(self._declared, tenant.config.backup, keep)

            def work(means: Means) -> Collected:
                return collect(Repository.at(means.store, tenant.id, means.keys), stay, means, always=True)

            done = await self._in_thread(job, location, work)
            return replace(done, uploads=await self.archives.end_left(job, location))

    # --- restoring ---

    async def look(self, tenant: Tenant, source: From) -> Restored:
        """What `restore` would do."""
        whose = source.tenant or tenant.id

        def work(means: Means) -> Restored:
            seen = look(Repository.at(means.store, whose, means.keys), tenant.id, source.backup)
            return replace(seen, snapshots=swap.snapshots(self._home, tenant.id))

        return await self._looking(source, work)

    async def look_session(
        self, tenant: Tenant, session_id: SessionId, source: From, *, as_id: SessionId, replace_it: bool
    ) -> Restored:
        """What `restore_session` would do; raises what it would."""
        whose = source.tenant or tenant.id

        def work(means: Means) -> Restored:
            return look_at_one(
                Repository.at(means.store, whose, means.keys), tenant.id, _transcript(tenant, session_id), source.backup
            )

        found = await self._looking(source, work)
        if not replace_it and await self._house.has_session(tenant, as_id):
            raise Conflict(
                "There is a session of that id already: bring it back under another (`--as-session`), or replace it "
                "(`--replace`)."
            )
        return found

    async def restore(
        self, tenant: Tenant, source: From, *, ready: Callable[[Restored], Awaitable[None]] | None = None
    ) -> Restored:
        """Bring a tenant back: all is fetched and judged first, then it rests for the moment of the swap.

        What was there is kept until `confirm`. ``ready`` is told when only the swap is left.
        """
        location = location_of(self._declared, source.place, anywhere=source.anywhere)
        async with self._jobs.hold(tenant.id) as job:
            whose = source.tenant or tenant.id

            def work(means: Means) -> Restored:
                repository = Repository.at(means.store, whose, means.keys)
                return prepare(
                    repository, self._home, tenant.id, source.backup, means=means, progress=job.progress,
                    skip_damaged=source.skip_damaged,
                )  # fmt: skip

            with self._jobs.counted(tenant.id, "restore"):
                done = await self._in_thread(job, location, work)
            if ready is not None:
                await ready(done)
            job.progress.phase = "swapping"
            try:
                async with self._house.at_rest(tenant):
                    fresh = swap.staged(self._home, tenant.id)
                    put_by = await self._house.carry_over(tenant, fresh, own=whose == tenant.id)
                    had = await asyncio.to_thread(swap.swap_in, self._home, tenant.id)
            finally:
                await asyncio.to_thread(remove_tree, swap.staged(self._home, tenant.id))
        if done.lost:
            _log.error("files are left out, for they are not whole in the store", tenant=tenant.id, backup=done.backup,
                       files=done.lost[:MOST_DAMAGED_LISTED])  # fmt: skip
        _log.info("restored", tenant=tenant.id, source=whose, backup=done.backup, files=done.files, bytes=done.bytes)
        return replace(done, kept_before=had, put_by=put_by, snapshots=swap.snapshots(self._home, tenant.id))

    async def restore_session(
        self, tenant: Tenant, session_id: SessionId, source: From, *, as_id: SessionId, replace_it: bool
    ) -> Restored:
        """Bring one session back, as ``as_id``. Raises NotFound, and Conflict where there is one of that id."""
        location = location_of(self._declared, source.place, anywhere=source.anywhere)
        own = _transcript(tenant, session_id)
        async with self._jobs.hold(tenant.id) as job:
            whose = source.tenant or tenant.id

            def work(means: Means) -> tuple[BackupInfo, str, bytes]:
                repository = Repository.at(means.store, whose, means.keys)
                found = fetch_one(
                    repository, lambda path: path == own, source.backup, means=means, progress=job.progress
                )
                if found is None:
                    raise NotFound(NO_SESSION)
                return found

            info, _, data = await self._in_thread(job, location, work)
            await self._house.put_session(tenant, as_id, data, replace=replace_it)
        return Restored(
            tenant=tenant.id, source=whose, backup=info.id, at=info.at, files=1, bytes=len(data), sessions=1, left_out=0
        )

    async def confirm(self, tenant: Tenant) -> None:
        """Let go what was there before the last restore. Raises NotFound."""
        async with self._jobs.hold(tenant.id):
            await asyncio.to_thread(swap.confirm, self._home, tenant.id)

    async def undo(self, tenant: Tenant) -> None:
        """Bring back what was there before the last restore. Raises NotFound."""
        async with self._jobs.hold(tenant.id):
            kept = swap.before(self._home, tenant.id)
            if not await asyncio.to_thread(kept.is_dir):
                raise NotFound(f"There is nothing kept of {tenant.id} from before a restore.")
            async with self._house.at_rest(tenant):
                await self._house.carry_over(tenant, kept, own=True)
                await asyncio.to_thread(swap.undo, self._home, tenant.id)

    # --- the work ---

    @property
    def _declared(self) -> BackupConfig:
        return self._directory.current.gateway.backup

    async def _in_thread(self, job: Job, location: Location, work: Callable[[Means], T]) -> T:
        def run() -> T:
            options = options_of(self._declared, self._secrets)
            store = open_store(location, options, pace=job.pace, patience=self._patience, proven=self._proven)
            with contextlib.closing(store):
                return work(Means(store, self._keys, self._clock, job.pace, self._scratch))

        return await in_thread(run, job.pace)

    async def _looking(self, source: From, work: Callable[[Means], T]) -> T:
        location = location_of(self._declared, source.place, anywhere=source.anywhere)
        return await self._in_thread(Job(Progress(), Pace()), location, work)


def clear_left(state_dir: Path) -> None:
    """Take away what a killed gateway left of backups and restores. Blocking; before anything runs.

    What cannot be taken away is logged, and is no reason not to start.
    """
    clear_scratch(state_dir / "run" / SCRATCH)
    for problem in swap.clear_staged(state_dir / "tenants"):
        _log.error("what a restore left cannot be taken away", reason=problem)


def _transcript(tenant: Tenant, session_id: SessionId) -> str:
    """Where a session is in a backup."""
    name = f"{session_id}.jsonl"
    return f"sessions.d/member-{tenant.own}/{name}" if tenant.own is not None else f"sessions/{name}"


def _noted(tenant: Tenant, **changes: object) -> None:
    """Write the note, which only saves the schedule a look: a disk that is full does not undo what was done."""
    try:
        write_note(tenant.root, **changes)
    except CarrelError as error:
        _log.warning("when it was backed up could not be noted", tenant=tenant.id, error=error.message)
