"""The list of backups made anew from what is in the store, where the list itself is damaged or gone.

Every backup has a manifest of its own, so that nothing is lost with the list. Without this, one wrong object would keep
a tenant from every backup and restore, and one that is gone would have the next list begin with nothing, and all older
backups removed as what nobody refers to.
"""

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from carrel.backup.catalogue import MOST_BACKUPS, MOST_DAMAGED_LISTED, BackupInfo, Head, Manifest, OfLaterVersion
from carrel.backup.repository import Repository
from carrel.errors import UnsafePath
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectMissing

_log = structlog.get_logger(__name__)
_TRIED: Final = 20


def list_of(repository: Repository) -> tuple[Head, str]:
    """The list, to look at; and what is wrong with the one in the store, empty where nothing is.

    Raises OfLaterVersion: what a later one wrote is whole, and a list that is made without it would be its end.
    """
    try:
        head, tag = repository.head()
    except OfLaterVersion:
        raise
    except ObjectDamaged as error:
        return rebuilt(repository), f"The list of backups is damaged ({error.message})"
    if tag is None and (found := rebuilt(repository)).backups:
        return found, "The list of backups is gone"
    return head, ""


def heal(repository: Repository) -> None:
    """Put a list that was made anew in the place of one that is damaged or gone; else do nothing."""
    # What is there before it is looked at: what another host puts in its place meanwhile is not replaced.
    tag = repository.head_tag()
    found, wrong = list_of(repository)
    if not wrong:
        return
    try:
        repository.commit(found, tag)
    except ObjectChanged:
        # Another host was faster.
        return
    _log.error("the list of backups is made anew from their manifests", tenant=repository.tenant, reason=wrong,
               backups=len(found.backups))  # fmt: skip


def rebuilt(repository: Repository) -> Head:
    """A list of all backups of which it can be read what is in them.

    One that lacks content, as far as a listing tells, is in it too, with the files whose it is: all else of it can be
    brought back, and what no list names is removed.

    Raises ObjectDamaged where nothing that is there opens: with a list of nothing all of it would be removed in time.

    It counts removals from a number of its own: whoever began before it looks anew at which pieces there are.
    """
    ids = sorted(info.key.rpartition("/")[2] for info in repository.manifests())
    there = {name for name, _ in repository.pieces()} if ids else set[str]()
    found = sorted((_info(*one) for one in _readable(repository, ids, there)), key=lambda one: (one.at, one.id))
    if ids and not found and not _opens_any(repository, there):
        raise ObjectDamaged(
            f"None of the {len(ids)} backups of {repository.tenant} reads: is `{repository.tenant}/repository.json` "
            "still the one that they were made with?"
        )
    return Head(collections=secrets.randbits(48), backups=tuple(found[-MOST_BACKUPS:]))


def _opens_any(repository: Repository, names: set[str]) -> bool:
    """Whether the repository's key is the one of what is there, as far as some pieces tell."""
    for name in itertools.islice(names, _TRIED):
        try:
            repository.piece(name)
        except (ObjectDamaged, ObjectMissing):
            continue
        return True
    return False


def _readable(repository: Repository, ids: list[str], there: set[str]) -> Iterator[tuple[Manifest, tuple[str, ...]]]:
    """Each with the names of files that lack content, some of them where they are many."""
    for backup_id in ids:
        try:
            manifest = repository.manifest(backup_id)
            if not there.issuperset(manifest.index):
                raise ObjectMissing("There is no list of what is in it any more.")
            lost = _lost(repository, manifest, there)
            if lost:
                _log.error("a backup lacks content, and is in the list with what it has", tenant=repository.tenant,
                           backup=backup_id[:64], files=lost)  # fmt: skip
            yield manifest, lost
        except OfLaterVersion:
            raise
        except (ObjectDamaged, ObjectMissing, UnsafePath) as error:
            _log.error("a backup does not read, and is left out of the list", tenant=repository.tenant,
                       backup=backup_id[:64], reason=error.message)  # fmt: skip


def _lost(repository: Repository, manifest: Manifest, there: set[str]) -> tuple[str, ...]:
    lacking = (
        one.path
        for one in repository.entries(manifest)
        if not there.issuperset(part.piece for part in one.parts if part.piece)
    )
    return tuple(itertools.islice(lacking, MOST_DAMAGED_LISTED))


def looked_at_again(repository: Repository, backups: Sequence[BackupInfo]) -> dict[str, BackupInfo]:
    """Those of ``backups`` that lost content, by their ids, as they are by now: a newer one may have sent it again."""
    lacking = [one for one in backups if one.lost]
    there = {name for name, _ in repository.pieces()} if lacking else set[str]()
    found = {}
    for one in lacking:
        with contextlib.suppress(ObjectDamaged, ObjectMissing, UnsafePath):
            lost = _lost(repository, repository.manifest(one.id), there)
            found[one.id] = one.model_copy(update={"lost": lost})
    return found


def _info(manifest: Manifest, lost: tuple[str, ...]) -> BackupInfo:
    return BackupInfo(
        id=manifest.id, at=manifest.at, host=manifest.origin.host, files=manifest.files, bytes=manifest.bytes, sent=0,
        left_out=manifest.left_out, revision=manifest.origin.revision,
        damaged=tuple(one.path for one in manifest.damaged)[:MOST_DAMAGED_LISTED], lost=lost,
    )  # fmt: skip
