"""What the workspaces of one tenant take of the disk: blocks and entries, each counted once.

Strangers fill the tree and change it while it is walked. Everything is opened beneath a descriptor and never followed;
a file of many names counts once, a sparse one by its blocks. A tree that is deeper than descriptors are held for is
gone back up by `..`, and only onto the very directory that was come from: nothing outside is ever looked at.
"""

import contextlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from carrel.errors import NotFound
from carrel.tenancy.paths import TenantRoot, open_beneath

PLACES: Final = ("sandbox",)
MANY_PLACES: Final = "sandbox.d"
HELD: Final = 64
_BLOCK: Final = 512
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Use:
    """Bytes on the disk, and files, directories and links."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: "Use") -> "Use":
        return Use(self.bytes + other.bytes, self.files + other.files)

    def over(self, limit: "Use") -> bool:
        """Whether either is over that of ``limit``."""
        return self.bytes > limit.bytes or self.files > limit.files


class Moved(Exception):
    """Directories went from under the walk, deeper than they are held."""


class Stopped(Exception):
    """Whoever wanted to know wants it no more."""


def measure(root: TenantRoot, *, going: Callable[[], bool] = lambda: True) -> dict[str, Use]:
    """What each workspace beneath the tenant's ``root`` takes, by its path. Blocking.

    Raises Moved where somebody keeps moving directories about that are very deep, Stopped where ``going`` says no.
    """
    names = [*PLACES, *_names(root)]
    used: dict[str, Use] = {}
    for name in names:
        for left in reversed(range(_TRIES)):
            try:
                with contextlib.closing(root.directory(name)) as workspace:
                    used[name] = walked(workspace.fd, going)
            except NotFound:
                pass
            except Moved:
                if not left:
                    raise
                continue
            break
    return used


def _names(root: TenantRoot) -> list[str]:
    try:
        return [f"{MANY_PLACES}/{name}" for name, _ in root.entries(MANY_PLACES)]
    except NotFound:
        return []


@dataclass(slots=True)
class _Level:
    """A directory on the way: its descriptor while it is held, which one it is, and what is still to be gone into."""

    fd: int
    which: tuple[int, int]
    below: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Count:
    bytes: int = 0
    files: int = 0
    seen: set[tuple[int, int]] = field(default_factory=set)

    def take(self, found: os.stat_result) -> None:
        """Count one entry; one of several names at its first."""
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            which = (found.st_dev, found.st_ino)
            if which in self.seen:
                return
            self.seen.add(which)
        self.files += 1
        self.bytes += found.st_blocks * _BLOCK


def walked(top: int, going: Callable[[], bool] = lambda: True) -> Use:
    """What is in the directory ``top``, a descriptor that stays the caller's. Blocking. Raises Moved, Stopped."""
    count = _Count()
    way = [_entered(os.dup(top), count)]
    try:
        while way:
            level = way[-1]
            if not going():
                raise Stopped
            if level.below:
                fd = _opened(level.fd, level.below.pop())
                if fd is not None:
                    way.append(_entered(fd, count))
                    _let_go(way)
            else:
                way.pop()
                _go_up(level, way)
    finally:
        for level in way:
            if level.fd >= 0:
                os.close(level.fd)
    return Use(count.bytes, count.files)


def _entered(fd: int, count: _Count) -> _Level:
    """Count what is in the directory ``fd``, and what of it is to be gone into."""
    found = os.fstat(fd)
    level = _Level(fd, (found.st_dev, found.st_ino))
    with contextlib.suppress(OSError), os.scandir(fd) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                inner = entry.stat(follow_symlinks=False)
                count.take(inner)
                if stat.S_ISDIR(inner.st_mode):
                    level.below.append(entry.name)
    return level


def _opened(above: int, name: str) -> int | None:
    """The directory, None where it is gone; one that is closed to its owner is opened to it."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return open_beneath(above, name, flags)
    except PermissionError:
        pass
    except OSError:
        return None
    try:
        handle = open_beneath(above, name, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        itself = Path(f"/proc/self/fd/{handle}")
        itself.chmod(stat.S_IMODE(itself.stat().st_mode) | 0o700)
        return open_beneath(above, name, flags)
    except OSError:
        return None
    finally:
        os.close(handle)


def _let_go(way: list[_Level]) -> None:
    """Hold the topmost directory and the last ones; those between are found again from below."""
    if len(way) > HELD + 1:
        level = way[-HELD]
        if level is not way[0] and level.fd >= 0:
            os.close(level.fd)
            level.fd = -1


def _go_up(level: _Level, way: list[_Level]) -> None:
    """Be in the directory above ``level``, which is done with: the one that was come from and no other."""
    try:
        if not way or way[-1].fd >= 0:
            return
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=level.fd)
        found = os.fstat(above)
        if (found.st_dev, found.st_ino) != way[-1].which:
            os.close(above)
            raise Moved
        way[-1].fd = above
    finally:
        os.close(level.fd)
