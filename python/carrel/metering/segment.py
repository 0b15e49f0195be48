"""One file of the journal: made full of zeros, mapped into memory, filled from its front.

Its space is taken when it is made, so that nothing written to it later can find the disk full. A line that was copied
into the mapping outlives the process from that instant; it outlives the machine once `fdatasync` has returned. Each
line is framed by its length and CRC-32; the first that does not agree is where the file ends.
"""

import errno
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError, StorageFull

MAGIC: Final = b"carrel journal 1"
FRAME: Final = struct.Struct("<II")
_ZEROS: Final = bytes(256 * 1024)
SUFFIX: Final = ".journal"


class Segment:
    """A file of the journal that is open for writing."""

    def __init__(self, path: Path, fd: int, mapped: mmap.mmap) -> None:
        self.path = path
        self.fd = fd
        self.last = 0
        self.tariffs: set[int] = set()
        self._map = mapped
        self._size = len(mapped)
        self._at = len(MAGIC)

    @classmethod
    def create(cls, path: Path, size: int) -> "Segment":
        """A new file of ``size`` bytes, on the disk with its name. Blocks. Raises StorageFull."""
        fd = -1
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            _fill(fd, size)
            os.fsync(fd)
            sync_directory(path.parent)
            mapped = mmap.mmap(fd, size)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
                path.unlink(missing_ok=True)
            raise translated(error) from error
        return cls(path, fd, mapped)

    @property
    def room(self) -> int:
        """How many bytes are left."""
        return self._size - self._at

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self._size

    def append(self, line: bytes) -> None:
        """Write one line; the caller has seen to it that there is room."""
        end = self._at + FRAME.size + len(line)
        self._map[self._at : end] = FRAME.pack(len(line), zlib.crc32(line)) + line
        self._at = end

    def close(self) -> None:
        """Unmap and close it; the file stays."""
        if self.fd >= 0:
            self._map.close()
            os.close(self.fd)
            self.fd = -1


def framed(line: bytes) -> int:
    """The bytes that ``line`` takes."""
    return FRAME.size + len(line)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that some earlier process wrote, up to the first that is torn."""
    data = path.read_bytes()
    at = len(MAGIC)
    if data[:at] != MAGIC:
        return
    while at + FRAME.size <= len(data):
        length, crc = FRAME.unpack_from(data, at)
        line = data[at + FRAME.size : at + FRAME.size + length]
        if length == 0 or len(line) != length or zlib.crc32(line) != crc:
            return
        yield line
        at += FRAME.size + length


def sync_directory(path: Path) -> None:
    """Put names made or removed in ``path`` on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def translated(error: OSError) -> CarrelError:
    """An error of the journal's files as one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull("The disk is full: no new model calls are taken until there is room; reads go on.")
    return CarrelError(f"The ledger's journal cannot be written: {os.strerror(error.errno or 0)}.")


def _fill(fd: int, size: int) -> None:
    """Real zeros, not a hole: a promise that every file system keeps."""
    os.write(fd, MAGIC)
    left = size - len(MAGIC)
    while left > 0:
        left -= os.write(fd, _ZEROS[: min(left, len(_ZEROS))])
