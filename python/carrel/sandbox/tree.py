"""A copy of a directory tree that strangers may have filled, and may still be changing.

Everything is opened beneath a descriptor and judged after opening; links are copied as links, and never followed. What
is neither file, directory nor link is left out and counted.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import TooLarge
from carrel.tenancy.paths import open_beneath

FICLONE: Final = 0x40049409
MOST_DEPTH: Final = 200
MOST_ENTRIES: Final = 1_000_000
_PIECE: Final = 8 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE})
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})


class Stopped(Exception):
    """Whoever wanted the copy wants it no more."""


@dataclass(slots=True)
class Copied:
    """What was copied, and what was left out: sockets, pipes, devices, and what changed or went meanwhile."""

    files: int = 0
    bytes: int = 0
    left_out: int = 0


def copy_tree(source: int, target: int, *, most_bytes: int, going: Callable[[], bool] = lambda: True) -> Copied:
    """Copy what is in the directory ``source`` into ``target``, both descriptors. Blocking.

    File systems that can share content do (reflinks); hard links are never made. ``going`` is asked at each file, and
    where it is False the copy ends with Stopped. Raises TooLarge over ``most_bytes`` or too many entries.
    """
    copied = Copied()
    _copy_into(source, target, copied, _Limits(most_bytes, going), 0)
    return copied


@dataclass(frozen=True, slots=True)
class _Limits:
    most_bytes: int
    going: Callable[[], bool]


def _copy_into(source: int, target: int, copied: Copied, limits: _Limits, depth: int) -> None:
    for name in sorted(os.listdir(source)):
        if not limits.going():
            raise Stopped
        copied.files += 1
        if copied.files > MOST_ENTRIES:
            raise TooLarge(f"A workspace of over {MOST_ENTRIES} entries is not copied.")
        try:
            kind = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISLNK(kind.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            elif stat.S_ISREG(kind.st_mode):
                _copy_file(source, target, name, copied, limits)
            elif stat.S_ISDIR(kind.st_mode) and depth < MOST_DEPTH:
                _copy_directory((source, target), name, copied, limits, depth)
            else:
                copied.left_out += 1
        except OSError as error:
            if error.errno in _FULL:
                raise
            # It went, or became something else, between one look and the next.
            copied.left_out += 1


def _copy_directory(ends: tuple[int, int], name: str, copied: Copied, limits: _Limits, depth: int) -> None:
    source, target = ends
    inner = _directory(source, name)
    try:
        mode = stat.S_IMODE(os.fstat(inner).st_mode)
        os.mkdir(name, 0o700, dir_fd=target)
        made = open_beneath(target, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _copy_into(inner, made, copied, limits, depth + 1)
            os.fchmod(made, mode & 0o777)
        finally:
            os.close(made)
    finally:
        os.close(inner)


def _directory(source: int, name: str) -> int:
    """A descriptor of the directory; one that was closed to its owner is opened again for that."""
    try:
        return open_beneath(source, name, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        handle = open_beneath(source, name, os.O_PATH | os.O_DIRECTORY)
        try:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
        finally:
            os.close(handle)
        return open_beneath(source, name, os.O_RDONLY | os.O_DIRECTORY)


def _copy_file(source: int, target: int, name: str, copied: Copied, limits: _Limits) -> None:
    opened = open_beneath(source, name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            copied.left_out += 1
            return
        if copied.bytes + found.st_blocks * 512 > limits.most_bytes:
            raise TooLarge(f"The workspace is over {limits.most_bytes} bytes, which is the most that is kept of one.")
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            _clone(opened, made, found.st_size)
            os.fchmod(made, stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(made)
        copied.bytes += found.st_blocks * 512
    finally:
        os.close(opened)


def _clone(source: int, target: int, size: int) -> None:
    """Share the content where the file system can; else copy what there is of it, holes as holes."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
    else:
        return
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:
            break
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        os.lseek(source, at, os.SEEK_SET)
        while at < end:
            count = _moved(source, target, min(_PIECE, end - at))
            if count == 0:
                break
            at += count
        else:
            continue
        break
    os.ftruncate(target, size)


def _moved(source: int, target: int, count: int) -> int:
    with contextlib.suppress(OSError):
        return os.copy_file_range(source, target, count)
    data = os.read(source, count)
    at = 0
    while at < len(data):
        at += os.write(target, data[at:])
    return len(data)
