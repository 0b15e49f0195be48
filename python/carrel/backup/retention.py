"""Which backups stay, and how what nobody refers to any more is removed without taking it from one that is being made.

Removing is announced in the list first, on condition that the list is as it was read, and counted there. A backup that
began before cannot enter the list any more without looking anew at which pieces there are; one that begins meanwhile
waits. So no backup in the list ever rests on a piece that was removed. See docs/adr/0110.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from carrel.backup.catalogue import BackupInfo, Collecting, Head
from carrel.backup.repository import Repository
from carrel.backup.run import Means, settled
from carrel.errors import Conflict
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectMissing

LEASE: Final = timedelta(minutes=30)
MARGIN_SECONDS: Final = 120.0
GRACE: Final = timedelta(hours=24)
"""Pieces that are younger are left alone: an interrupted backup goes on from them."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How many stay: the last ones, and of the newest days, ISO weeks and months (UTC) the newest of each."""

    last: int = 3
    daily: int = 7
    weekly: int = 4
    monthly: int = 12


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed. ``pieces`` are counted, ``bytes`` are of the store, ``uploads`` those that broke off."""

    backups: tuple[str, ...] = ()
    pieces: int = 0
    bytes: int = 0
    uploads: int = 0


def kept(backups: Sequence[BackupInfo], keep: Keep) -> set[str]:
    """The ids that stay of ``backups``, newest last.

    The newest always does, and the newest in which nothing was damaged when it was made. One that lost content takes no
    other's place: what would stay without it stays.
    """
    # As the list has them: what a clock said that was ahead does not make a backup newer.
    newest_first = backups[::-1]
    whole = [one for one in newest_first if not one.lost]
    undamaged = [one.id for one in whole if not one.damaged][:1]
    return _placed(newest_first, keep) | _placed(whole, keep) | set(undamaged)


def _placed(newest_first: Sequence[BackupInfo], keep: Keep) -> set[str]:
    stays = {one.id for one in newest_first[: max(keep.last, 1)]}
    for count, period in ((keep.daily, _day), (keep.weekly, _week), (keep.monthly, _month)):
        seen: set[object] = set()
        for one in newest_first:
            key = period(one.at)
            if key not in seen and len(seen) < count:
                seen.add(key)
                stays.add(one.id)
    return stays


def collect(repository: Repository, keep: Keep, means: Means, *, always: bool = False) -> Collected:
    """Take out of the list what does not stay, and remove what nothing in the list refers to.

    Does nothing where all stays, unless ``always``. Raises Conflict where the list changes all the time.
    """
    for _ in range(10):
        head = settled(repository, means)
        current, tag = repository.head()
        if current != head:
            continue
        stays = kept(head.backups, keep)
        gone = tuple(one.id for one in head.backups if one.id not in stays)
        if not gone and not always:
            return Collected()
        began = means.clock.monotonic()
        mine = Collecting(by=os.urandom(8).hex(), until=means.clock.now() + LEASE)
        left = tuple(one for one in head.backups if one.id in stays)
        announced = head.model_copy(
            update={"backups": left, "collecting": mine, "collections": head.collections + 1}
        )  # fmt: skip
        try:
            repository.commit(announced, tag)
        except ObjectChanged:
            continue
        deadline = began + LEASE.total_seconds() - MARGIN_SECONDS
        try:
            pieces, size = _swept(repository, announced, means, deadline)
        finally:
            _ended(repository, mine)
        return Collected(gone, pieces, size)
    raise Conflict("Others change this tenant's backups all the time: what is old is removed the next time.")


def _swept(repository: Repository, head: Head, means: Means, deadline: float) -> tuple[int, int]:
    ids = {one.id for one in head.backups}
    used: set[str] = set()
    indexes: set[str] = set()
    for backup_id in ids:
        means.pace.check()
        try:
            manifest = repository.manifest(backup_id)
            fresh = [name for name in manifest.index if name not in indexes]
            indexes.update(fresh)
            only = manifest.model_copy(update={"index": tuple(fresh)})
            for entry in repository.entries(only):
                used.update(part.piece for part in entry.parts)
        except (ObjectDamaged, ObjectMissing) as error:
            raise ObjectDamaged(
                f"The backup {backup_id} does not read ({error.message}), so that it is not known what it needs, and "
                "nothing is removed as long as it stays. It leaves the list as any other does (`--keep`)."
            ) from error
    used |= indexes
    young = means.clock.now() - GRACE
    doomed, sizes = [], []
    for name, info in repository.pieces():
        if name not in used and info.modified < young:
            doomed.append(info.key)
            sizes.append(info.size)
    doomed += [m.key for m in repository.manifests() if m.key.rpartition("/")[2] not in ids and m.modified < young]
    done = 0
    for count in repository.remove(doomed):
        # Past its time, or once its announcement is gone, somebody else may rest on what is still here.
        means.pace.check()
        if means.clock.monotonic() > deadline or repository.head()[0].collecting != head.collecting:
            break
        done += count
    return min(done, len(sizes)), sum(sizes[:done])


def _ended(repository: Repository, mine: Collecting) -> None:
    """Say that it is over, unless somebody who did not wait said so already."""
    while True:
        head, tag = repository.head()
        if head.collecting != mine:
            return
        try:
            repository.commit(head.model_copy(update={"collecting": None}), tag)
        except ObjectChanged:
            continue
        return


def _day(at: datetime) -> object:
    return at.date()


def _week(at: datetime) -> object:
    return at.isocalendar()[:2]


def _month(at: datetime) -> object:
    return (at.year, at.month)
