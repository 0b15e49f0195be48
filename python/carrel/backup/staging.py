"""A backup laid out beside the live directory: a new tree, every name judged, nothing followed, synced at the end."""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carrel.backup.catalogue import Block, Entry, Hole, Manifest
from carrel.backup.progress import Progress
from carrel.backup.reader import counted, reading
from carrel.backup.repository import Repository
from carrel.errors import CarrelError, StorageFull, TooLarge, lacking
from carrel.objects.protocol import ObjectDamaged, ObjectMissing
from carrel.tenancy.paths import open_beneath
from carrel.tenancy.removal import remove_tree

_libc = ctypes.CDLL(None, use_errno=True)
RESERVE_BYTES: Final = 64 << 20
"""What a restore leaves of the disk."""
LOOK_BYTES: Final = 16 << 20


@dataclass(slots=True)
class Room:
    """Looks, after so many bytes each time, whether the disk of ``place`` still has what is left to others."""

    place: Path
    _since: int = 0

    def spend(self, count: int) -> None:
        """``count`` bytes more are about to be written; raises StorageFull."""
        self._since += count
        if self._since < LOOK_BYTES:
            return
        self._since = 0
        found = os.statvfs(self.place)
        if found.f_bavail * found.f_frsize < RESERVE_BYTES:
            raise StorageFull("The disk of the state directory has no room for this archive: make some, and try again.")


@dataclass(slots=True)
class Plan:
    """What a restore would do. ``sessions`` are the transcripts, by their paths."""

    manifest: Manifest
    files: int = 0
    bytes: int = 0
    links: int = 0
    directories: int = 0
    sessions: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


def plan(repository: Repository, backup_id: str) -> Plan:
    """What is in a backup, with every name judged and no content fetched. Raises UnsafePath, ObjectDamaged."""
    found = Plan(repository.manifest(backup_id))
    for entry in counted(repository, found.manifest):
        match entry.kind:
            case "file":
                found.files += 1
                found.bytes += entry.size
            case "link":
                found.links += 1
            case "directory":
                found.directories += 1
        if entry.path.startswith(("sessions/", "sessions.d/")) and entry.path.endswith(".jsonl"):
            found.sessions.append(entry.path)
        if entry.path.startswith("credentials/vault/") and entry.path.endswith(".sealed"):
            found.secrets.append(entry.path)
    return found


def stage(
    repository: Repository, manifest: Manifest, target: Path, progress: Progress, *, going: Callable[[], None],
    lost: list[str] | None = None,
) -> None:  # fmt: skip
    """Lay the backup out in ``target``, which must not be there; where it fails nothing is left of it.

    Files whose content is damaged or gone are left out where they are wanted in ``lost``.
    Raises TooLarge where the disk has no room for it, StorageFailed, UnsafePath, ObjectDamaged, ObjectMissing.
    """
    _require_room(target.parent, manifest)
    progress.phase, progress.total, progress.done = "reading", manifest.bytes, 0
    try:
        target.mkdir(mode=0o700)
        with synced(target) as fd:
            _lay_out(repository, manifest, fd, progress, going=going, lost=lost)
    except BaseException as error:
        remove_tree(target)
        if isinstance(error, OSError):
            raise _public(error) from error
        raise


def _lay_out(
    repository: Repository, manifest: Manifest, target: int, progress: Progress, *, going: Callable[[], None],
    lost: list[str] | None,
) -> None:  # fmt: skip
    modes: list[tuple[str, int]] = []
    with reading(repository, progress) as reader:
        for entry, content in reader.contents(counted(repository, manifest)):
            going()
            above, _, name = entry.path.rpartition("/")
            parent = open_beneath(target, above or ".", os.O_RDONLY | os.O_DIRECTORY)
            try:
                match entry.kind:
                    case "directory":
                        os.mkdir(name, 0o700, dir_fd=parent)
                        modes.append((entry.path, entry.mode))
                    case "link":
                        os.symlink(entry.target, name, dir_fd=parent)
                    case "file":
                        try:
                            _file(parent, name, entry, content)
                        except (ObjectDamaged, ObjectMissing) as error:
                            if lost is None:
                                raise _not_whole(entry, error) from error
                            os.unlink(name, dir_fd=parent)
                            lost.append(entry.path)
            finally:
                os.close(parent)
    for path, mode in reversed(modes):
        fd = open_beneath(target, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


def _not_whole(entry: Entry, error: CarrelError) -> CarrelError:
    return ObjectDamaged(
        f"{entry.path[:200]}: {error.message} Nothing was changed: an older backup may have it whole "
        "(`--backup ID`), or all but what is damaged comes back (`--skip-damaged`)."
    )


def _file(parent: int, name: str, entry: Entry, content: Iterable[Block]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        for block in content:
            if isinstance(block, Hole):
                os.lseek(fd, block.length, os.SEEK_CUR)
                continue
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        os.ftruncate(fd, entry.size)
        os.fchmod(fd, entry.mode)
        os.utime(fd, ns=(entry.mtime, entry.mtime))
    finally:
        os.close(fd)


@contextmanager
def told() -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        raise _public(error) from error


@contextmanager
def synced(place: Path) -> Iterator[int]:
    """A descriptor of the directory ``place``; all beneath it is on the disk when the block ends."""
    with told():
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
            _sync(fd)
        finally:
            os.close(fd)


def _require_room(place: Path, manifest: Manifest) -> None:
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize - RESERVE_BYTES
    wanted = manifest.bytes - manifest.holes
    if wanted > free:
        raise TooLarge(
            f"The backup takes {wanted} bytes and the disk of the state directory has {max(free, 0)} to spare."
        )
    if found.f_files and manifest.entries > found.f_favail:
        raise TooLarge("The backup has more files than the disk of the state directory can take.")


def _sync(fd: int) -> None:
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _public(error: OSError) -> CarrelError:
    return lacking(error, "nothing was changed, and what was there is as it was") or CarrelError(
        f"It could not be written: {os.strerror(error.errno or 0)}."
    )
