"""How the record's files are written: appended, synced before they count, and never half."""

import errno
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from carrel.durability import sync_directory

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\.jsonl")
_PIECE: Final = 64 << 10


def days(path: Path) -> list[Path]:
    """The files of lines in the directory ``path``, oldest first."""
    return sorted(p for p in path.iterdir() if _DAY.fullmatch(p.name)) if path.is_dir() else []


def backwards(path: Path) -> Generator[bytes, None, None]:
    """The lines of a file, its last one first, in memory of one piece and one line; the last may be torn.

    Read and not mapped: a page that a failing disk does not give, or that was cut off meanwhile, would end the process.
    """
    with path.open("rb", buffering=0) as file:
        at = file.seek(0, os.SEEK_END)
        rest: list[bytes] = []
        while at > 0:
            size = min(_PIECE, at)
            at -= size
            piece = os.pread(file.fileno(), size, at)
            end = len(piece)
            # The file's last newline ends its last line; each other one begins what is behind it, too.
            before = end if rest else end - 1
            while (cut := piece.rfind(b"\n", 0, max(before, 0))) >= 0:
                yield piece[cut + 1 : end] + b"".join(reversed(rest))
                rest.clear()
                end, before = cut + 1, cut
            rest.append(piece[:end])
        if rest:
            yield b"".join(reversed(rest))


def append_synced(path: Path, line: bytes) -> None:
    """Append and sync. A line that could not be kept whole is taken away again."""
    with appended(path, line):
        return


def cut_off(path: Path, count: int) -> None:
    """Take the last ``count`` bytes of a file away, on the disk."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - count)
        os.fsync(file.fileno())


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
