"""A whole tenant brought back: judged, laid out beside the live directory, made its own. It blocks.

The swap itself is for whoever knows that the tenant rests: the service of a gateway that runs, or the start.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from carrel.backup.adoption import Adopted, adopt
from carrel.backup.catalogue import BackupInfo
from carrel.backup.keyfile import NoRepository
from carrel.backup.progress import Progress
from carrel.backup.reader import counted, reading
from carrel.backup.rebuilding import list_of
from carrel.backup.repository import Repository
from carrel.backup.run import Means
from carrel.backup.staging import Plan, plan, stage
from carrel.backup.swap import require_none_waiting, staged
from carrel.errors import InvalidRequest, NotFound
from carrel.ids import TenantId
from carrel.tenancy.removal import remove_tree

NO_SESSION = "The backup has no such session."


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did, or with ``dry_run`` would do. ``at`` is when the backup was made.

    ``snapshots`` is how many copies of workspaces there are, which are in no backup and stay. ``damaged`` names files
    that were so when the backup was made, ``put_by`` ledgers that are kept as they were because they are now, ``lost``
    files that were left out because the store has no whole content of them.
    """

    tenant: TenantId
    source: TenantId
    backup: str
    at: datetime
    files: int
    bytes: int
    sessions: int
    left_out: int
    secrets_lost: tuple[str, ...] = ()
    tokens_left_out: bool = False
    kept_before: bool = False
    snapshots: int = 0
    damaged: tuple[str, ...] = ()
    put_by: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    dry_run: bool = False


def chosen(repository: Repository, backup_id: str | None) -> BackupInfo:
    """The backup of that id, or the newest that lost nothing as far as is known; raises NoRepository."""
    head, _ = list_of(repository)
    if backup_id is None:
        if not head.backups:
            raise NoRepository(f"There is no backup of {repository.tenant} there yet.")
        return next((one for one in reversed(head.backups) if not one.lost), head.backups[-1])
    found = head.find(own_id(repository.tenant, backup_id))
    if found is None:
        raise NoRepository(f"There is no backup {backup_id[:64]!r} of {repository.tenant} there.")
    return found


def own_id(tenant: TenantId, key: str) -> str:
    """The id in ``key``, which is an id or `TENANT/manifests/ID`; raises InvalidRequest for another tenant's key."""
    if "/" not in key:
        return key
    prefix = f"{tenant}/manifests/"
    if not key.startswith(prefix) or "/" in key[len(prefix) :]:
        raise InvalidRequest("That key is not one of this tenant's backups.", param="key")
    return key[len(prefix) :]


def look(repository: Repository, target: TenantId, backup_id: str | None) -> Restored:
    """What a restore would do; nothing is fetched but the list of names."""
    info = chosen(repository, backup_id)
    found = plan(repository, info.id)
    same = target == repository.tenant
    return _report(found, repository.tenant, target, Adopted(tokens=not same), dry_run=True)


def look_at_one(repository: Repository, target: TenantId, path: str, backup_id: str | None) -> Restored:
    """What bringing back the one session whose transcript is ``path`` would do; raises NotFound."""
    info = chosen(repository, backup_id)
    manifest = repository.manifest(info.id)
    entry = next((one for one in repository.entries(manifest) if one.path == path and one.kind == "file"), None)
    if entry is None:
        raise NotFound(NO_SESSION)
    return Restored(
        tenant=target, source=repository.tenant, backup=info.id, at=info.at, files=1, bytes=entry.size, sessions=1,
        left_out=0, dry_run=True,
    )  # fmt: skip


def prepare(
    repository: Repository, home: Path, target: TenantId, backup_id: str | None, *, means: Means, progress: Progress,
    skip_damaged: bool = False,
) -> Restored:  # fmt: skip
    """Lay a backup out beside ``target``'s directory, ready to be swapped in.

    ``skip_damaged``: files whose content is not whole in the store are left out.
    """
    require_none_waiting(home, target)
    info = chosen(repository, backup_id)
    found = plan(repository, info.id)
    place = staged(home, target)
    remove_tree(place)
    lost: list[str] | None = [] if skip_damaged else None
    stage(repository, found.manifest, place, progress, going=means.pace.check, lost=lost)
    try:
        adopted = adopt(place, repository.tenant, target, means.keys)
    except BaseException:
        remove_tree(place)
        raise
    done = _report(found, repository.tenant, target, adopted, dry_run=False)
    return replace(done, files=done.files - len(lost), lost=tuple(lost)) if lost else done


def fetch_one(
    repository: Repository, wanted: Callable[[str], bool], backup_id: str | None, *, means: Means, progress: Progress,
) -> tuple[BackupInfo, str, bytes] | None:  # fmt: skip
    """The first entry whose path is ``wanted``, with its content; None where the backup has none."""
    info = chosen(repository, backup_id)
    manifest = repository.manifest(info.id)
    entries = (entry for entry in counted(repository, manifest) if entry.kind == "file" and wanted(entry.path))
    with reading(repository, progress) as reader:
        for entry, content in reader.contents(entries):
            means.pace.check()
            return info, entry.path, b"".join(block for block in content if isinstance(block, bytes))
    return None


def _report(found: Plan, source: TenantId, target: TenantId, adopted: Adopted, *, dry_run: bool) -> Restored:
    manifest = found.manifest
    return Restored(
        tenant=target, source=source, backup=manifest.id, at=manifest.at, files=found.files, bytes=found.bytes,
        sessions=len(found.sessions), left_out=manifest.left_out, secrets_lost=adopted.secrets,
        tokens_left_out=adopted.tokens, dry_run=dry_run,
        damaged=tuple(one.path for one in manifest.damaged),
    )  # fmt: skip
