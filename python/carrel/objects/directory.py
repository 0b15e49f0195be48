"""Objects as files beneath a directory: another disk, a mounted share. Writes are whole, synced and conditional."""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from carrel.durability import make_directory, sync_directory
from carrel.errors import CarrelError, StorageFull, lacking
from carrel.objects.location import require_key, require_prefix
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectInfo, ObjectMissing, StoreRefused

_LOCK: Final = ".carrel-lock"
_TEMPORARY: Final = ".carrel-new-"


class DirectoryStore:
    """The objects beneath ``path``, which is made where it is missing."""

    conditional = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def require_conditions(self) -> None:
        """See `ObjectStore`. They are held here, under a lock of this module's own."""

    def get(self, key: str, *, most: int) -> tuple[bytes, str]:
        """See `ObjectStore`."""
        try:
            fd = os.open(self._file(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise translated(error, self._path) from error
        try:
            with os.fdopen(fd, "rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise translated(error, self._path) from error
        if len(data) > most:
            raise ObjectDamaged(f"The object {key} is over {most} bytes, which none of ours is.")
        return data, _tag(data)

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        """See `ObjectStore`."""
        path = self._file(key)
        try:
            make_directory(path.parent)
            if replaces is None and not absent:
                self._write(path, data)
                return _tag(data)
            with self._locked():
                found = path.read_bytes() if path.is_file() else None
                if (found is not None) if absent else (found is None or _tag(found) != replaces):
                    raise ObjectChanged(f"The object {key} is not as it was.")
                self._write(path, data)
        except OSError as error:
            raise translated(error, self._path) from error
        return _tag(data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        top = self._path / require_prefix(prefix) if prefix else self._path
        for directory, names, files in os.walk(top, onerror=self._unless_gone):
            names.sort()
            for name in sorted(files):
                if name.startswith(".carrel-"):
                    continue
                path = Path(directory, name)
                try:
                    found = path.stat(follow_symlinks=False)
                except OSError as error:
                    self._unless_gone(error)
                    continue
                modified = datetime.fromtimestamp(found.st_mtime, UTC)
                yield ObjectInfo(path.relative_to(self._path).as_posix(), found.st_size, modified)

    def folders(self) -> Iterator[str]:
        """See `ObjectStore`."""
        try:
            with os.scandir(self._path) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            self._unless_gone(error)
            return
        yield from names

    def delete(self, keys: Sequence[str]) -> None:
        """See `ObjectStore`."""
        for key in keys:
            try:
                self._file(key).unlink(missing_ok=True)
            except OSError as error:
                raise translated(error, self._path) from error

    def close(self) -> None:
        """See `ObjectStore`."""

    def _unless_gone(self, error: OSError) -> None:
        """Raise what ``error`` is: half of a listing would look like all of it."""
        if error.errno != errno.ENOENT:
            raise translated(error, self._path) from error

    def _file(self, key: str) -> Path:
        return self._path / require_key(key)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        temporary = path.with_name(f"{_TEMPORARY}{os.urandom(8).hex()}")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def translated(error: OSError, path: Path) -> CarrelError:
    """What ``error`` of the system is, beneath the directory ``path`` of backups."""
    if error.errno == errno.ENOENT:
        return ObjectMissing("There is no such object.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The disk that backups go to is full.")
    reason = os.strerror(error.errno or 0)
    return lacking(error, f"the directory of backups {path} cannot be used") or StoreRefused(
        f"The directory {path} cannot be used for backups: {reason}."
    )
