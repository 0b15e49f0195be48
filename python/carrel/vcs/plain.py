"""A directory of declarations that people edit too, best a git work tree: written by compare and swap, and committed.

A file that is no longer what a change was made from is left as it is. The new one is exchanged with the old by one call
of the kernel, and exchanged back where the old one turns out to be another than it was.
"""

import asyncio
import contextlib
import ctypes
import errno
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.declare import directory
from carrel.errors import CarrelError, Conflict, StorageFailed, lacking
from carrel.vcs.bare import Moved
from carrel.vcs.git import Author, Git

_EXCHANGE: Final = 2
_HERE: Final = -100
_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """What a file was, and is to be; None where it is not there."""

    before: bytes | None
    after: bytes | None


class PlainDirectory:
    """The declarations in ``path``. ``wrote`` are the digests of what this wrote, None for what it removed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wrote: dict[str, str | None] = {}

    async def read(self, name: str) -> bytes | None:
        """The bytes of a file, None where it is missing.

        Raises Conflict where it cannot be read, StorageFailed or Unavailable where that is the machine's doing.
        """
        return await asyncio.to_thread(self._read, name)

    def _read(self, name: str) -> bytes | None:
        try:
            return directory.read(self.path, name).data
        except FileNotFoundError:
            return None
        except directory.Refused as error:
            machine = lacking(error.__cause__, "nothing was changed") if isinstance(error.__cause__, OSError) else None
            raise machine or Conflict(f"{name} cannot be read ({error}): mend it by hand.") from error

    async def write(self, changes: Mapping[str, Change], message: str, author: Author) -> str | None:
        """Make all of ``changes`` or none, and commit them; the commit, None where there is no git.

        Raises Moved where a file is no longer as it was, GitFailed, StorageFailed.
        """
        done: dict[str, Change] = {}
        git = await Git.find(self.path)
        if git is not None:
            # What could not be committed would be in force for a moment.
            await git.wait_until_free()
        try:
            for name, change in changes.items():
                self.wrote[name] = hashlib.sha256(change.after).hexdigest() if change.after is not None else None
                await asyncio.shield(asyncio.to_thread(replace_if, self.path / name, change.before, change.after))
                done[name] = change
            if git is None:
                return None
            return await git.commit([self.path / name for name in changes], message, author)
        except (CarrelError, asyncio.CancelledError):
            await asyncio.shield(asyncio.to_thread(self._take_back, done))
            raise

    def _take_back(self, done: Mapping[str, Change]) -> None:
        for name, change in done.items():
            # What somebody wrote over it meanwhile is theirs.
            self.wrote[name] = hashlib.sha256(change.before).hexdigest() if change.before is not None else None
            with contextlib.suppress(Moved):
                replace_if(self.path / name, change.after, change.before)


def replace_if(path: Path, before: bytes | None, after: bytes | None) -> None:
    """Put ``after`` at ``path`` where ``before`` is, None meaning no file; raises Moved, Conflict, StorageFailed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if after is None:
            _remove_if(path, before, temporary)
        else:
            _write(temporary, after, path)
            _put_if(path, before, temporary)
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except PermissionError as error:
        raise Conflict(
            f"tenants.d cannot be written by the gateway (uid {os.geteuid()}): let that uid write it, or edit "
            f"{path.name} by hand."
        ) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise StorageFailed(
                "tenants.d is on a file system that takes no writes: the change was not made. Mount it for writing, or "
                f"edit {path.name} where tenants.d comes from."
            ) from error
        raise lacking(error, "the change was not made") or CarrelError(
            f"{path.name} cannot be written: {error.strerror}."
        ) from error
    finally:
        # A disk that takes no writes refuses this, too, and what it refused before is what is told.
        with contextlib.suppress(OSError):
            temporary.unlink()


def _write(temporary: Path, data: bytes, like: Path) -> None:
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(like.stat().st_mode & 0o777 if like.exists() else 0o644)


def _put_if(path: Path, before: bytes | None, temporary: Path) -> None:
    if before is None:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise _moved(path) from None
        return
    if path.is_symlink():
        raise _moved(path)
    try:
        exchanged = _exchange(temporary, path)
    except FileNotFoundError:
        raise _moved(path) from None
    if not exchanged:
        # A file system without the call: what is left is a moment between a look and the rename.
        if _bytes(path) != before:
            raise _moved(path)
        temporary.replace(path)
    elif _bytes(temporary) != before:
        with contextlib.suppress(FileNotFoundError):
            _exchange(temporary, path)
        raise _moved(path)


def _remove_if(path: Path, before: bytes | None, temporary: Path) -> None:
    try:
        path.rename(temporary)
    except FileNotFoundError:
        if before is None:
            return
        raise _moved(path) from None
    if _bytes(temporary) != before:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        raise _moved(path)


def _moved(path: Path) -> Moved:
    return Moved(f"{path.name} was changed by somebody else meanwhile and stays as they left it: look, and try again.")


def _bytes(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two files by one call; False where that cannot be done here. Raises FileNotFoundError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.ENOENT:
        raise FileNotFoundError(other)
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number))
