"""What it takes for a name or a whole file system to outlive the machine: the calls that Python lacks, in one place.

A file's fsync makes its content last, and its directory's fsync its name. A directory that was made needs both too.
"""

import ctypes
import os
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
