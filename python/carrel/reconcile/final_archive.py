"""The final backup of a tenant that is to be deleted, where no backup target is declared: one archive in the state.

A tar file with everything in the tenant's directory, read back and compared before it counts. Nothing is followed; what
is neither a file, a directory nor a link (sockets, pipes) has no content and is left out.
"""

import asyncio
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from carrel.clock import Clock
from carrel.errors import CarrelError, StorageFull
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import open_beneath

if TYPE_CHECKING:
    import tarfile

DIRECTORY: Final = "removed"
MOST_DEEP: Final = 400
_PIECE: Final = 1 << 20


class ArchiveFailed(CarrelError):
    """The archive could not be made, or does not hold what it should; nothing may be deleted."""

    code = "final_backup_failed"
    retryable = True


class FinalArchive:
    """Archives in ``state_dir``/removed, for the gateway's user alone."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._directory = state_dir / DIRECTORY
        self._clock = clock

    async def make(self, tenant: Tenant) -> str:
        """Archive everything of ``tenant``; where, beneath the state directory. Raises ArchiveFailed, StorageFull."""
        stamp = self._clock.now().strftime("%Y%m%dT%H%M%S%fZ")
        name = f"{tenant.id}-{stamp}.tar.gz"
        try:
            await asyncio.to_thread(self._make, tenant, name)
        except OSError as error:
            raise ArchiveFailed(f"The final backup of {tenant.id} failed: {error.strerror or error}.") from error
        return f"{DIRECTORY}/{name}"

    def _make(self, tenant: Tenant, name: str) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        part = self._directory / f".{name}.part"
        try:
            written = self._write(tenant, part)
            _compare(part, written)
            part.rename(self._directory / name)
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        finally:
            part.unlink(missing_ok=True)

    def _write(self, tenant: Tenant, part: Path) -> dict[str, str]:
        """Write the archive to ``part`` and on to the disk; the SHA-256 of each file in it, by name."""
        import tarfile  # noqa: PLC0415 - a gateway that removes no tenant does without it

        written: dict[str, str] = {}
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1, format=tarfile.PAX_FORMAT) as tar:
                    _add(tar, tenant.root.fd, str(tenant.id), written, 0)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno in (28, 122):
                raise StorageFull("The disk is full: the final backup was not made, and nothing is deleted.") from error
            raise
        return written


def _add(tar: "tarfile.TarFile", directory: int, prefix: str, written: dict[str, str], depth: int) -> None:
    if depth > MOST_DEEP:
        raise ArchiveFailed(f"Directories are nested more than {MOST_DEEP} deep: remove those by hand.")
    import tarfile  # noqa: PLC0415 - loaded by now

    for name in sorted(os.listdir(directory)):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        info = tarfile.TarInfo(f"{prefix}/{name}")
        info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
        if stat.S_ISDIR(found.st_mode):
            info.type = tarfile.DIRTYPE
            tar.addfile(info)
            with _opened(directory, name, os.O_RDONLY | os.O_DIRECTORY) as inner:
                _add(tar, inner, info.name, written, depth + 1)
        elif stat.S_ISLNK(found.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=directory)
            tar.addfile(info)
        elif stat.S_ISREG(found.st_mode):
            with _opened(directory, name, os.O_RDONLY | os.O_NONBLOCK) as fd:
                info.size = os.fstat(fd).st_size
                content = _Hashed(fd, info.size)
                tar.addfile(info, cast(IO[bytes], content))
            written[info.name] = content.digest()


class _Hashed(io.RawIOBase):
    """The first ``size`` bytes of a file, hashed as they are read; a file that became shorter is an error."""

    def __init__(self, fd: int, size: int) -> None:
        super().__init__()
        self._fd, self._left, self._sum = fd, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = os.read(self._fd, min(self._left, size if size >= 0 else _PIECE))
        if not data and self._left:
            raise ArchiveFailed("A file changed while it was read.")
        self._left -= len(data)
        self._sum.update(data)
        return data

    def digest(self) -> str:
        """The SHA-256 of what was read."""
        return self._sum.hexdigest()


@contextmanager
def _opened(directory: int, name: str, flags: int) -> Iterator[int]:
    """A descriptor of ``name``, also where its permissions keep its owner out."""
    try:
        fd = open_beneath(directory, name, flags)
    except PermissionError:
        handle = open_beneath(directory, name, os.O_PATH)
        try:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        finally:
            os.close(handle)
        fd = open_beneath(directory, name, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _compare(part: Path, written: dict[str, str]) -> None:
    """Read the archive back; raises ArchiveFailed where it does not hold each file as it was."""
    import tarfile  # noqa: PLC0415 - loaded by now

    left = dict(written)
    try:
        with gzip.open(part) as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
            for info in tar:
                if not info.isreg():
                    continue
                content, found = tar.extractfile(info), hashlib.sha256()
                while content is not None and (piece := content.read(_PIECE)):
                    found.update(piece)
                if left.pop(info.name, None) != found.hexdigest():
                    raise ArchiveFailed("The final backup does not read back as it was written.")
            # The sum of all of it comes last, behind what an archive is filled up with.
            while whole.read(_PIECE):
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveFailed("The final backup cannot be read back.") from error
    if left:
        raise ArchiveFailed("The final backup lacks files.")
