"""A tenant carried out as one file, and one taken in, in a gateway that runs: here, or to and from where backups go."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import structlog

from carrel.backup import swap
from carrel.backup.adoption import adopt
from carrel.backup.house import House
from carrel.backup.intake import TakenIn, take_in
from carrel.backup.jobs import Job, Jobs, in_thread
from carrel.backup.keyfile import Keys
from carrel.backup.moving import Exported, came_from, export, has_made_anything, mark, unpacked
from carrel.backup.staging import told
from carrel.backup.target import ArchivePlace, Reach, Secrets, archive_of, options_of
from carrel.clock import Clock
from carrel.declare.backup import BackupConfig
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound
from carrel.ids import TenantId
from carrel.objects.files import FileStore
from carrel.objects.location import Location
from carrel.objects.open import open_files
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.retry import Patience
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.removal import remove_tree
from carrel.vault.keys import MasterKeys

_log = structlog.get_logger(__name__)
T = TypeVar("T")
SCRATCH: Final = "backup"
LEFT: Final = timedelta(days=1)
"""How long nothing came of an upload before `end_left` ends it."""
Opens = Callable[[Job], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was taken in. ``secrets`` did not open here, ``tokens`` are another id's, and so they did not come along.

    ``kept``: what was there before is, until it is decided on. ``unchanged``: it was this very archive already.
    ``dry_run``: nothing was taken in.
    """

    taken: TakenIn
    secrets: tuple[str, ...] = ()
    tokens: bool = False
    kept: bool = False
    unchanged: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """An archive that went to a place. ``size`` is the file's in bytes, ``sha256`` its digest in hex."""

    place: str
    at: datetime
    size: int
    sha256: str
    written: Exported


class Archives:
    """One for a gateway."""

    def __init__(
        self, *, state_dir: Path, directory: Directory, clock: Clock, keys: Keys, secrets: Secrets, house: House,
        jobs: Jobs, patience: Patience | None = None, proven: set[str] | None = None,
    ) -> None:  # fmt: skip
        self._home = state_dir / "tenants"
        self._scratch = state_dir / "run" / SCRATCH
        self._directory = directory
        self._clock = clock
        self._keys = keys
        self._secrets = secrets
        self._house = house
        self._jobs = jobs
        self._patience = patience
        self._proven = proven
        self._sending: set[str] = set()

    @asynccontextmanager
    async def spool(self) -> AsyncIterator[Path]:
        """A file of its own for an archive, gone when the block ends."""
        path = self._scratch / f"archive-{os.urandom(8).hex()}"
        await asyncio.to_thread(self._scratch.mkdir, mode=0o700, parents=True, exist_ok=True)
        try:
            yield path
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    # --- carrying out ---

    async def export(self, tenant: Tenant, file: Path) -> Exported:
        """Write the tenant's archive to ``file``. Raises StorageFull."""
        async with self._jobs.hold(tenant.id) as job:
            await self._house.flush(tenant)
            with self._jobs.counted(tenant.id, "export"):
                done, _ = await in_thread(lambda: self._written(tenant, file, job, self._clock.now()), job.pace)
        return done

    async def send(self, tenant: Tenant, to: str, *, replaces: bool, reach: Reach) -> Sent:
        """Write the tenant's archive and send it ``to`` a place, whole or not at all.

        A place that ends in ``/`` is given a name by the tenant's id and the time. Raises InvalidRequest, Conflict
        where one is there and is not to be replaced, and what the store raises.
        """
        at = self._clock.now()
        place = archive_of(self._declared, to, reach, name=f"{tenant.id}-{at:%Y%m%dT%H%M%SZ}.tar.gz")

        def work(file: Path, job: Job) -> Sent:
            with contextlib.closing(self._files(place.folder, job.pace)) as store:
                if not replaces:
                    # Told before all the work.
                    store.require_free(place.name)
                written, digest = self._written(tenant, file, job, at)
                size = file.stat().st_size
                job.progress.begin("sending", size)
                store.send(place.name, file, replaces=replaces, counts=_counting(job))
            return Sent(str(place), at, size, digest, written)

        async with self._taking(place), self._jobs.hold(tenant.id) as job, self.spool() as file:
            await self._house.flush(tenant)
            with self._jobs.counted(tenant.id, "export"):
                try:
                    done = await in_thread(lambda: work(file, job), job.pace)
                except Cancelled:
                    raise Cancelled("The export was stopped, and nothing of it is at that place.") from None
        _log.info("exported", tenant=tenant.id, to=done.place, bytes=done.size, files=done.written.files)
        return done

    async def end_left(self, job: Job, location: Location) -> int:
        """End what exports beneath ``location`` left that broke off, and of which nothing came for a day."""
        before = self._clock.now() - LEFT

        def work() -> int:
            with contextlib.closing(self._files(location, job.pace)) as store:
                return store.end_left(before)

        return await in_thread(work, job.pace)

    @asynccontextmanager
    async def _taking(self, place: ArchivePlace) -> AsyncIterator[None]:
        """Nobody else of this gateway sends to that very place: an upload of that name is what a death left."""
        name = str(place)
        if name in self._sending:
            raise Conflict("An export to that very place runs already: wait for its end.")
        self._sending.add(name)
        try:
            yield
        finally:
            self._sending.discard(name)

    def _written(self, tenant: Tenant, file: Path, job: Job, at: datetime) -> tuple[Exported, str]:
        """The archive in ``file``, and its SHA-256 in hex."""
        with told(), file.open("xb") as out:
            hashed = _Hashed(out)
            done = export(
                tenant.id, tenant.root, hashed, at=at, temporary=self._scratch, going=job.pace.check,
                keys=self._usable_keys(), progress=job.progress,
            )  # fmt: skip
            return done, hashed.digest.hexdigest()

    # --- taking in ---

    async def take_in(
        self, tenant: Tenant, file: Path, *, replaces: bool, sealed: bool = False, dry_run: bool = False,
        reach: Reach | None = None,
    ) -> Moved:  # fmt: skip
        """Make the archive in ``file`` the tenant's directory; the same one again changes nothing.

        ``sealed``: it must bear the seal of a master key that is here. Raises UnsafePath, InvalidRequest, TooLarge,
        NotFound where it is of a tenant beyond ``reach``, and Conflict where the tenant has made something of its own
        and it is not to be replaced. What is replaced is kept until `confirm`. With ``dry_run`` all is judged and
        nothing changed.
        """
        return await self._taken(
            tenant, lambda _: file.open("rb"), replaces=replaces, sealed=sealed, dry_run=dry_run, reach=reach
        )  # fmt: skip

    async def fetch(
        self, tenant: Tenant, place: str, *, replaces: bool, sealed: bool, dry_run: bool, reach: Reach
    ) -> Moved:
        """The same with an archive at a ``place``; raises what the store does too."""
        found = archive_of(self._declared, place, reach)
        return await self._taken(
            tenant, lambda job: self._reading(found, job), replaces=replaces, sealed=sealed, dry_run=dry_run,
            reach=reach,
        )  # fmt: skip

    async def look(self, tenant: TenantId, place: str, *, sealed: bool, reach: Reach) -> TakenIn:
        """What is in the archive at a ``place``, judged as an import into ``tenant`` judges it."""
        found = archive_of(self._declared, place, reach)

        def work() -> TakenIn:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            tree = self._scratch / f"looked-at-{os.urandom(8).hex()}"
            with self._reading(found, job) as stream:
                done = take_in(stream, tree, going=job.pace.check, keys=self._usable_keys())
            remove_tree(tree)
            return _judged(done, sealed, reach)

        async with self._jobs.hold(tenant) as job:
            return await _or_stopped(in_thread(work, job.pace))

    async def _taken(
        self, tenant: Tenant, opened: Opens, *, replaces: bool, sealed: bool, dry_run: bool, reach: Reach | None = None
    ) -> Moved:
        live, place = self._home / tenant.id, swap.staged(self._home, tenant.id)

        def work() -> TakenIn:
            swap.require_none_waiting(self._home, tenant.id)
            with opened(job) as stream:
                done = unpacked(stream, self._home, tenant.id, going=job.pace.check, keys=self._usable_keys())
            return _judged(done, sealed, reach)

        async with self._jobs.hold(tenant.id) as job:
            job.progress.phase = "reading"
            try:
                with self._jobs.counted(tenant.id, "import"):
                    done = await _or_stopped(in_thread(work, job.pace))
                if await asyncio.to_thread(came_from, live) == mark(done):
                    return Moved(done, unchanged=True, dry_run=dry_run)
                made = await asyncio.to_thread(has_made_anything, live)
                if made and not replaces:
                    raise Conflict(
                        f"{tenant.id} has sessions, files or settings already: take the archive in as another tenant, "
                        "or say that it replaces what there is (`--replace`)."
                    )
                source = TenantId(done.header.tenant)
                adopted = await asyncio.to_thread(adopt, place, source, tenant.id, self._keys)
                if dry_run:
                    return Moved(done, secrets=adopted.secrets, tokens=adopted.tokens, kept=made, dry_run=True)
                job.progress.phase = "swapping"
                async with self._house.at_rest(tenant):
                    await self._house.carry_over(tenant, place, own=source == tenant.id)
                    had = await asyncio.to_thread(swap.swap_in, self._home, tenant.id)
                if had and not made:
                    await asyncio.to_thread(swap.confirm, self._home, tenant.id)
            finally:
                await asyncio.to_thread(remove_tree, place)
        _log.info("taken in", tenant=tenant.id, source=done.header.source, files=done.files, bytes=done.bytes)
        return Moved(done, secrets=adopted.secrets, tokens=adopted.tokens, kept=had and made)

    @contextmanager
    def _reading(self, place: ArchivePlace, job: Job) -> Iterator[BinaryIO]:
        with contextlib.closing(self._files(place.folder, job.pace)) as store:
            stream, size = store.read(place.name, counts=_counting(job))
            job.progress.begin("reading", size)
            with contextlib.closing(stream):
                yield stream

    # --- what both use ---

    @property
    def _declared(self) -> BackupConfig:
        return self._directory.current.gateway.backup

    def _files(self, folder: Location, pace: Pace) -> FileStore:
        options = options_of(self._declared, self._secrets)
        return open_files(folder, options, pace=pace, patience=self._patience, proven=self._proven)

    def _usable_keys(self) -> MasterKeys | None:
        """The master keys where there are any: without one an archive goes out, and comes in, unsealed. Blocking."""
        try:
            return self._keys.current()
        except CarrelError:
            return None


class _Hashed:
    """A file that is written, and its digest."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.digest = hashlib.sha256()

    def write(self, data: Any, /) -> int:
        """Write some of it."""
        self.digest.update(data)
        return self._out.write(data)

    def flush(self) -> None:
        """See `BinaryIO`."""
        self._out.flush()


async def _or_stopped(work: Awaitable[T]) -> T:
    try:
        return await work
    except Cancelled:
        raise Cancelled("The import was stopped, and nothing was changed.") from None


def _judged(done: TakenIn, sealed: bool, reach: Reach | None) -> TakenIn:
    """``done`` where whoever asks may have it; raises InvalidRequest, NotFound."""
    if reach is not None and not reach.sees(TenantId(done.header.tenant)):
        raise NotFound(
            "There is no archive of that name of a tenant that is yours: this key is limited to some, and an archive "
            "of another's brings that one's secrets."
        )
    if sealed and done.seal != "own":
        raise InvalidRequest(
            "The archive bears no seal of a master key that is here, and one was asked for: who could write to the "
            "file could have changed it."
        )
    return done


def _counting(job: Job) -> Callable[[int], None]:
    def count(more: int) -> None:
        job.progress.done += more
        job.progress.moved += more

    return count
