"""Large files beneath a directory: copied under another name, synced, and only then named as they are to be."""

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from carrel.durability import make_directory, sync_directory
from carrel.objects.directory import translated
from carrel.objects.files import BLOCK, OF_BACKUPS, Counts, require_name, there_is
from carrel.objects.pace import Pace
from carrel.objects.protocol import ObjectChanged, ObjectMissing

_PARTIAL: Final = ".carrel-upload-"
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


class DirectoryFiles:
    """The large files beneath ``path``, which is made where it is missing."""

    def __init__(self, path: Path, *, pace: Pace) -> None:
        self._path = path
        self._pace = pace

    def require_free(self, name: str) -> None:
        """See `FileStore`."""
        if os.path.lexists(self._path / require_name(name)):
            raise there_is(name)

    def send(self, name: str, source: Path, *, replaces: bool, counts: Counts) -> None:
        """See `FileStore`. A half copy that a death left under the same name is overwritten."""
        target = self._path / require_name(name)
        with source.open("rb") as file, self._told():
            make_directory(self._path)
            if not replaces:
                self.require_free(name)
            with self._partial(name) as (partial, out):
                while block := file.read(BLOCK):
                    self._pace.spend(len(block))
                    _write(out, block)
                    counts(len(block))
                out.flush()
                os.fsync(out.fileno())
                if replaces:
                    partial.replace(target)
                else:
                    self._named(partial, target)
            sync_directory(self._path)

    def read(self, name: str, *, counts: Counts) -> tuple[BinaryIO, int]:
        """See `FileStore`."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with self._told():
            fd = os.open(self._path / require_name(name), flags)
            found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise ObjectMissing(f"{name} is no file there.")
        file = os.fdopen(fd, "rb", buffering=0)
        return io.BufferedReader(_Counted(file, self._pace, counts), BLOCK), found.st_size

    def end_left(self, before: datetime) -> int:
        """See `FileStore`."""
        ended = 0
        with self._told():
            for directory, folders, names in os.walk(self._path):
                # Nearly all that is there, and none of it an export's.
                folders[:] = [name for name in folders if name not in OF_BACKUPS]
                for name in names:
                    path = Path(directory, name)
                    if name.startswith(_PARTIAL) and _changed(path) < before and _removed(path):
                        ended += 1
        return ended

    def close(self) -> None:
        """See `FileStore`."""

    @contextlib.contextmanager
    def _partial(self, name: str) -> Iterator[tuple[Path, BinaryIO]]:
        """The half copy of ``name``, empty and ours alone; gone at the end, unless it got its name."""
        path = self._path / f"{_PARTIAL}{hashlib.sha256(name.encode()).hexdigest()[:32]}"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                raise ObjectChanged(f"{name} is being written to that place by another export.") from None
            if _is_at(fd, path):
                break
            os.close(fd)
        with os.fdopen(fd, "wb", buffering=0) as out:
            try:
                out.truncate(0)
                yield path, out
            finally:
                if _is_at(fd, path):
                    path.unlink()

    @staticmethod
    def _named(partial: Path, target: Path) -> None:
        """Give it its name where nothing has it; raises ObjectChanged."""
        try:
            os.link(partial, target, follow_symlinks=False)
        except FileExistsError:
            raise there_is(target.name) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # A file system without links: nobody else writes this name, for the half copy of it is ours.
            if os.path.lexists(target):
                raise there_is(target.name) from None
            partial.replace(target)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translated(error, self._path) from error


class _Counted(io.RawIOBase):
    """A file that is told of, at a pace."""

    def __init__(self, file: Any, pace: Pace, counts: Counts) -> None:
        self._file, self._pace, self._counts = file, pace, counts

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, 0 at the end."""
        count: int = self._file.readinto(buffer)
        self._pace.spend(count)
        self._counts(count)
        return count

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()


def _write(out: BinaryIO, block: bytes) -> None:
    """Write all of it: a disk that is nearly full takes some, and says so only the next time."""
    view = memoryview(block)
    while view:
        view = view[out.write(view) :]


def _is_at(fd: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    own = os.fstat(fd)
    return (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)


def _changed(path: Path) -> datetime:
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.max.replace(tzinfo=UTC)


def _removed(path: Path) -> bool:
    """Take a half copy away, unless somebody writes it, or took it away meanwhile."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(fd, path):
            path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
