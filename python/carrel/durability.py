"""What it takes for a name or a whole file system to outlive the machine: the calls that Python lacks, in one place.

A file's fsync makes its content last, and its directory's fsync its name. A directory that was made needs both too.
"""

import contextlib
import ctypes
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)


def sync_directory(path: Path | str) -> None:
    """Make the names in ``path`` last. Blocks; raises OSError."""
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, mode: int = 0o700) -> None:
    """``path`` and what is missing above it, whose names last. Blocks; raises OSError."""
    if path.is_dir():
        return
    make_directory(path.parent, 0o777)
    path.mkdir(mode=mode, exist_ok=True)
    sync_directory(path.parent)


def sync_filesystem(path: Path | str) -> None:
    """Make everything last that the file system of the directory ``path`` holds: what other programs wrote there too.

    Blocks for as long as the disk takes for all that is not on it yet; raises OSError.
    """
    fd = os.open(path, _DIRECTORY)
    try:
        if _libc.syncfs(ctypes.c_int(fd)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def replace_synced(contents: Mapping[Path, bytes], *, lasting: Path | None = None) -> None:
    """Replace these files. All are written beside their places before the first is: a full disk harms none.

    After a power cut each is as it was or as it is; with ``lasting`` one of that directory is as it is for certain, and
    without it all are.
    """
    try:
        for path, data in contents.items():
            _write_synced(_beside(path), data)
        for path in contents:
            _beside(path).replace(path)
    except OSError:
        # What is half written takes room of a disk that may have none.
        for path in contents:
            with contextlib.suppress(OSError):
                _beside(path).unlink()
        raise
    for parent in {path.parent for path in contents} if lasting is None else (lasting,):
        sync_directory(parent)


def _write_synced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp")
