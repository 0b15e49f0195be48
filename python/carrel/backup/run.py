"""One backup, from the first look to the line in the list. It blocks: run it in a thread."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from carrel.backup.catalogue import (
    MOST_BACKUPS,
    MOST_DAMAGED_LISTED,
    MOST_LEFT_OUT_NAMED,
    BackupInfo,
    Entry,
    Head,
    LeftOut,
    Manifest,
    OfLaterVersion,
    Origin,
)
from carrel.backup.gather import Gathering
from carrel.backup.keyfile import Keys
from carrel.backup.progress import Progress
from carrel.backup.rebuilding import heal, looked_at_again
from carrel.backup.repository import Repository
from carrel.backup.writer import Pieces, Writer, Written
from carrel.clock import Clock
from carrel.errors import CarrelError, Conflict
from carrel.ids import TenantId
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectMissing, ObjectStore

_log = structlog.get_logger(__name__)
ROUNDS: Final = 6
COLLECTING_POLL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose directory it is: ``root`` is a descriptor of it, ``owner`` the uid of what it holds."""

    tenant: TenantId
    root: int
    owner: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Means:
    """What a backup or a restore works with. ``scratch`` is a directory for copies, made where it is missing."""

    store: ObjectStore
    keys: Keys
    clock: Clock
    pace: Pace
    scratch: Path


def new_backup_id(now: datetime) -> str:
    """An id whose order is that of time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"


def back_up(subject: Subject, means: Means, progress: Progress, *, anew: bool = False) -> BackupInfo:
    """Back up one tenant. What was sent before it broke off is read back, and not sent again, the next time.

    ``anew``: nothing that is there is relied on, all is read and sent again, in the place of what may be damaged.
    Raises what the store and the vault raise, Cancelled, and Conflict where others change the repository all the time.
    """
    repository = Repository.make(means.store, subject.tenant, means.keys, means.clock.now())
    for _ in range(ROUNDS):
        head = settled(repository, means)
        manifest, written = _written(subject, means, progress, repository, head, anew=anew)
        info = BackupInfo(
            id=manifest.id, at=manifest.at, host=subject.origin.host, files=written.files, bytes=written.bytes,
            sent=written.sent, left_out=manifest.left_out, revision=subject.origin.revision,
            damaged=tuple(one.path for one in manifest.damaged)[:MOST_DAMAGED_LISTED],
        )  # fmt: skip
        if _listed(repository, head, info):
            progress.phase = "done"
            return info
        # Pieces were removed meanwhile, perhaps ones that this backup rests on: it looks at all of it again.
    raise Conflict("Others change this tenant's backups all the time: try again later.")


def settled(repository: Repository, means: Means) -> Head:
    """The list once nobody removes pieces; one who began and never ended is not waited for beyond the time it named.

    A list that is damaged or gone is made anew first.
    """
    looked = False
    while True:
        try:
            head, tag = repository.head()
        except OfLaterVersion:
            raise
        except ObjectDamaged:
            if looked:
                raise
            tag = None
        if tag is None and not looked:
            heal(repository)
            looked = True
            continue
        collecting = head.collecting
        if collecting is None:
            return head
        if collecting.until <= means.clock.now():
            freed = head.model_copy(update={"collecting": None, "collections": head.collections + 1})
            try:
                repository.commit(freed, tag)
            except ObjectChanged:
                continue
            return freed
        means.pace.sleep(COLLECTING_POLL_SECONDS)


def _listed(repository: Repository, began: Head, info: BackupInfo) -> bool:
    """Add a backup to the list; False where pieces were removed since ``began``."""
    mended = looked_at_again(repository, began.backups)
    while True:
        head, tag = repository.head()
        if head.collecting is not None or head.collections != began.collections:
            return False
        if head.find(info.id) is not None:
            # Its own write was done and its answer lost, and another host's came after it.
            return True
        backups = (*(mended.get(one.id, one) for one in head.backups), info)[-MOST_BACKUPS:]
        try:
            repository.commit(head.model_copy(update={"backups": backups}), tag)
        except ObjectChanged:
            continue
        return True


def _written(
    subject: Subject, means: Means, progress: Progress, repository: Repository, head: Head, *, anew: bool
) -> tuple[Manifest, Written]:
    named: list[LeftOut] = []
    left_out = 0

    def leave_out(path: str, why: str) -> None:
        nonlocal left_out
        left_out += 1
        if len(named) < MOST_LEFT_OUT_NAMED:
            named.append(LeftOut(path=path, why=why[:200]))

    walk = Gathering(subject.root, owner=subject.owner, left_out=leave_out, going=means.pace.check)
    progress.phase, progress.done = "counting", 0
    progress.total = walk.total()
    there = set() if anew else {name for name, _ in repository.pieces()}
    last = None if anew else _last(repository, head)
    progress.phase = "copying"
    at = means.clock.now()
    with _scratch(means.scratch) as temporary:
        pieces = Pieces(repository, there, progress, named=lambda: _named(repository, last))
        pieces.vouch(last.index if last is not None else ())
        try:
            writer = Writer(
                pieces, walk, previous=_entries(repository, last), temporary=temporary, left_out=leave_out,
                progress=progress,
            )  # fmt: skip
            written = writer.run()
        except BaseException:
            # What waits to be sent is not: whoever stopped it waits for nothing more than what is on its way.
            means.pace.stop()
            raise
        finally:
            pieces.close()
    manifest = Manifest(
        id=new_backup_id(at), tenant=subject.tenant, at=at, origin=subject.origin, index=tuple(written.index),
        entries=written.entries, files=written.files, bytes=written.bytes, holes=written.holes,
        left_out=left_out, left_out_named=tuple(named), damaged=_named_damage(walk),
    )  # fmt: skip
    repository.put_manifest(manifest)
    return manifest, written


def _named_damage(walk: Gathering) -> tuple[LeftOut, ...]:
    found = [LeftOut(path=path[:4096], why=why[:200]) for path, why in walk.damaged.items()]
    return tuple(found[:MOST_LEFT_OUT_NAMED])


def _last(repository: Repository, head: Head) -> Manifest | None:
    """The last backup's manifest where it can be read: it only saves work."""
    if not head.backups:
        return None
    try:
        return repository.manifest(head.backups[-1].id)
    except (ObjectDamaged, ObjectMissing) as error:
        _log.warning("the last backup cannot be read; all is read anew", tenant=repository.tenant, reason=error.message)
        return None


def _entries(repository: Repository, last: Manifest | None) -> Iterator[Entry]:
    """The last backup's entries, as far as they can be read."""
    try:
        yield from repository.entries(last) if last is not None else ()
    except (ObjectDamaged, ObjectMissing) as error:
        _log.warning("the last backup cannot be read; all is read anew", tenant=repository.tenant, reason=error.message)


def _named(repository: Repository, last: Manifest | None) -> Iterator[str]:
    """The pieces of the last backup's files."""
    for entry in _entries(repository, last):
        yield from (part.piece for part in entry.parts)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A directory for copies, gone at the end. One that a killed run left is taken away by `clear_scratch`."""
    try:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = parent / os.urandom(8).hex()
        path.mkdir(mode=0o700)
    except OSError as error:
        raise CarrelError(f"There is no room to copy databases in: {error.strerror}.") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def clear_scratch(parent: Path) -> None:
    """Take away what a killed run left. Before anything runs."""
    shutil.rmtree(parent, ignore_errors=True)
