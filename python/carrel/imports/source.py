"""A directory of another system's, read without trust: nothing is followed out of it, or read without bound."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from carrel.errors import CarrelError, NotFound, TooLarge, UnsafePath
from carrel.tenancy.paths import open_beneath

BLOCK: Final = 1 << 20
MOST_NAMES: Final = 500_000
MOST_DEPTH: Final = 60
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Name:
    """One name beneath the directory. ``kind`` is `file`, `directory`, `link` (to ``target``) or `other`.

    `deep` is a directory that a walk does not look into.
    """

    path: str
    kind: str
    mode: int
    mtime: int
    size: int
    target: str = ""


class Source:
    """The directory at a path, or the one that is open as ``fd``; close it, or use it as a context."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self.path = path
        self.closed_to_us: dict[str, str] = {}
        """Directories that are there and could not be looked into, and why."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if fd is None else fd
        except OSError as error:
            raise CarrelError(f"{path} cannot be read: {error.strerror}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def below(self, path: str) -> "Source":
        """A directory beneath this one, as a source of its own."""
        return Source(self.path / path, self._open(path, os.O_RDONLY | os.O_DIRECTORY))

    def look(self, path: str) -> Name | None:
        """What is there; None where there is nothing, or the way to it leads over a link."""
        above, _, name = path.rpartition("/")
        if name in ("", ".", "..") or "\0" in path:
            return None
        try:
            parent = self._open(above or ".", os.O_RDONLY | os.O_DIRECTORY)
        except CarrelError:
            return None
        try:
            return _name(parent, name, path)
        except OSError:
            return None
        finally:
            os.close(parent)

    def read(self, path: str, *, limit: int) -> bytes:
        """All of a file; raises NotFound, TooLarge, UnsafePath where it is no plain file."""
        return b"".join(self.blocks(path, limit=limit))

    def blocks(self, path: str, *, limit: int) -> Iterator[bytes]:
        """The content of a file, block by block."""
        fd = self._open(path, _READ)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise UnsafePath("it is no file")
        with os.fdopen(fd, "rb", buffering=0) as file:
            if found.st_size > limit:
                raise TooLarge(f"it has {found.st_size} bytes; {limit} are the most")
            left = limit
            while block := file.read(min(BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    raise TooLarge(f"it grew over {limit} bytes")
                yield block

    def names(self, path: str = ".") -> list[Name]:
        """What is in a directory, in order; nothing where there is none, or it is kept as one of `closed_to_us`."""
        try:
            fd = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        except NotFound:
            return []
        except CarrelError as error:
            there = self.look(path)
            if there is not None:
                linked = there.kind == "link"
                self.closed_to_us[path] = "it is a link, and none is followed" if linked else error.message
            return []
        try:
            prefix = "" if path == "." else f"{path}/"
            found = []
            for name in sorted(os.listdir(fd)):
                try:
                    found.append(_name(fd, name, f"{prefix}{name}"))
                except FileNotFoundError:
                    continue
            return found
        finally:
            os.close(fd)

    def walk(self, path: str, *, depth: int = 0) -> Iterator[Name]:
        """Everything beneath a directory, a directory before what is in it. Raises TooLarge for too many names."""
        count = 0
        stack = [iter(self.names(path))]
        while stack:
            one = next(stack[-1], None)
            if one is None:
                stack.pop()
                continue
            count += 1
            if count > MOST_NAMES:
                raise TooLarge(f"{self.path / path} has over {MOST_NAMES} names")
            if one.kind == "directory" and len(stack) >= MOST_DEPTH:
                yield replace(one, kind="deep")
                continue
            yield one
            if one.kind == "directory":
                stack.append(iter(self.names(one.path)))

    def _open(self, path: str, flags: int) -> int:
        if "\0" in path:
            raise UnsafePath("it is no path")
        try:
            return open_beneath(self._fd, path, flags)
        except FileNotFoundError:
            raise NotFound("it is not there") from None
        except OSError as error:
            raise UnsafePath(f"it cannot be opened: {error.strerror}") from error


def _name(parent: int, name: str, path: str) -> Name:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    mode, mtime = stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime)
    if stat.S_ISREG(found.st_mode):
        return Name(path, "file", mode, mtime, found.st_size)
    if stat.S_ISDIR(found.st_mode):
        return Name(path, "directory", mode, mtime, 0)
    if stat.S_ISLNK(found.st_mode):
        return Name(path, "link", 0o777, mtime, 0, os.readlink(name, dir_fd=parent))
    return Name(path, "other", mode, mtime, 0)
