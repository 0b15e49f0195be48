"""A copy of a directory tree that strangers may have filled, and may still be changing.

Everything is opened beneath a descriptor and judged after opening; links are copied as links, and never followed. What
is neither file, directory nor link is left out and counted.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import TooLarge
from carrel.tenancy.paths import HALF_WRITTEN, open_beneath

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
    unshared: int = 0
    """Bytes of files whose content the file system could not share."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a copy may come to; ``most_unshared`` bounds what of it is really written, None where all may be.

    ``going`` is asked at each file, and where it is False the copy ends with Stopped. ``named`` is what declares
    ``most_bytes``.
    """

    most_bytes: int
    most_unshared: int | None = None
    most_entries: int = MOST_ENTRIES
    going: Callable[[], bool] = lambda: True
    named: str = "sandbox.snapshot_bytes"


def copy_tree(source: int, target: int, limits: Limits) -> Copied:
    """Copy what is in the directory ``source`` into ``target``, both descriptors. Blocking.

    File systems that can share content do (reflinks); hard links are never made. Raises TooLarge, Stopped.
    """
    copied = Copied()
    _copy_into(source, target, copied, limits, 0)
    return copied


def state_of(source: int, limits: Limits) -> str:
    """A digest that changes with anything in the directory ``source``: names, kinds, and the kernel's times of change.

    Raises TooLarge over so many entries, Stopped. Blocking.
    """
    digest, seen = hashlib.blake2b(digest_size=16), [0]
    _note_into(source, digest.update, seen, limits, 0)
    return digest.hexdigest()


def _note_into(source: int, update: Callable[[bytes], None], seen: list[int], limits: Limits, depth: int) -> None:
    for name in _names(source, limits, seen[0]):
        if not limits.going():
            raise Stopped
        seen[0] += 1
        if seen[0] > limits.most_entries:
            raise TooLarge(f"The workspace has over {limits.most_entries} entries.")
        try:
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            facts = (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, depth)
            update(os.fsencode(name) + repr(facts).encode() + b"\n")
            if stat.S_ISDIR(found.st_mode) and depth < MOST_DEPTH:
                inner = open_beneath(source, name, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    _note_into(inner, update, seen, limits, depth + 1)
                finally:
                    os.close(inner)
        except OSError as error:
            if error.errno in _FULL:
                raise
            update(b"?")


def _copy_into(source: int, target: int, copied: Copied, limits: Limits, depth: int) -> None:
    for name in _names(source, limits, copied.files):
        if not limits.going():
            raise Stopped
        copied.files += 1
        if copied.files > limits.most_entries:
            raise TooLarge(f"A workspace of over {limits.most_entries} entries is not copied.")
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


def _names(directory: int, limits: Limits, seen: int) -> list[str]:
    """The names in a directory, of which strangers may have made any number; raises TooLarge, Stopped.

    Without those of files that are being written: in a copy they would stay for ever.
    """
    names: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) + seen > limits.most_entries:
                raise TooLarge(f"A workspace of over {limits.most_entries} entries is not copied.")
            if len(names) % 1024 == 0 and not limits.going():
                raise Stopped
    return sorted(name for name in names if not HALF_WRITTEN.fullmatch(name))


def _copy_directory(ends: tuple[int, int], name: str, copied: Copied, limits: Limits, depth: int) -> None:
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


def _copy_file(source: int, target: int, name: str, copied: Copied, limits: Limits) -> None:
    opened = open_beneath(source, name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            copied.left_out += 1
            return
        if copied.bytes + found.st_blocks * 512 > limits.most_bytes:
            raise TooLarge(
                f"The workspace is over {limits.most_bytes} bytes, which is the most that is kept of one "
                f"({limits.named})."
            )
        made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            if not _shared(opened, made):
                copied.unshared += found.st_blocks * 512
                if limits.most_unshared is not None and copied.unshared > limits.most_unshared:
                    most = limits.most_unshared
                    raise TooLarge(
                        f"The workspace is over {most} bytes, and this file system cannot share content "
                        "(sandbox.snapshot_copy_bytes)."
                    )
                _copy_content(opened, made, found.st_size)
            os.fchmod(made, stat.S_IMODE(found.st_mode) & 0o777)
            os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))
        finally:
            os.close(made)
        copied.bytes += found.st_blocks * 512
    finally:
        os.close(opened)


def _shared(source: int, target: int) -> bool:
    """Share the content where the file system can; whether it could."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True


def _copy_content(source: int, target: int, size: int) -> None:
    """Copy what there is of it, holes as holes."""
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
