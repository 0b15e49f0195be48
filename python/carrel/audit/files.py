"""How the record's files are written: appended, synced before they count, and never half."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from carrel.durability import sync_directory

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")


def days(path: Path) -> list[Path]:
    """The files of lines in the directory ``path``, oldest first."""
    return sorted(p for p in path.iterdir() if _DAY.fullmatch(p.name)) if path.is_dir() else []


def append_synced(path: Path, line: bytes) -> None:
    """Append and sync. A line that could not be kept whole is taken away again."""
    with appended(path, line):
        return


@contextmanager
def appended(path: Path, line: bytes) -> Iterator[None]:
    """Append and sync ``line``, before what has to come to be with it: where that fails, the line is taken away again.

    By the descriptor that is there: where a new one cannot be had, nothing could be taken away any more.
    """
    new = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        size = os.fstat(fd).st_size
        try:
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
            if new:
                sync_directory(path.parent)
            yield
        except OSError:
            os.ftruncate(fd, size)
            os.fsync(fd)
            raise
    finally:
        os.close(fd)
