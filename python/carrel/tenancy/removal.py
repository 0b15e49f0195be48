"""Removing what hostile programs may have filled: nothing is followed, and no depth of nesting matters."""

import errno
import os
import stat
from pathlib import Path
from uuid import uuid4

from carrel.errors import CarrelError
from carrel.tenancy.paths import open_beneath


def remove_tree(path: Path) -> None:
    """Remove the directory ``path`` with all that hostile programs may have left in it; nothing is followed.

    Directories are moved up beside each other one by one, so that no depth of nesting matters. Raises CarrelError.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            empty(top)
        finally:
            os.close(top)
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise CarrelError(
                f"{path.name} holds files that only another user may remove: {error.strerror}."
            ) from error
        raise CarrelError(f"{path.name} cannot be removed: {error.strerror}.") from error


def empty(top: int) -> None:
    """Remove everything in the directory that the descriptor ``top`` is of; raises OSError."""
    while names := os.listdir(top):
        for name in names:
            if not _is_directory(top, name):
                os.unlink(name, dir_fd=top)
                continue
            inner = _opened(top, name)
            try:
                for below in os.listdir(inner):
                    if _is_directory(inner, below):
                        # Renaming a directory into another one needs write permission in it.
                        os.close(_opened(inner, below))
                        os.rename(below, f"d{uuid4().hex}", src_dir_fd=inner, dst_dir_fd=top)
                    else:
                        os.unlink(below, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _is_directory(directory: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)


def _opened(directory: int, name: str) -> int:
    """A descriptor of the subdirectory ``name``, whatever its permissions were."""
    handle = open_beneath(directory, name, os.O_PATH | os.O_DIRECTORY)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)
    return open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY)
