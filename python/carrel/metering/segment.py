"""One file of the journal: made full of zeros, mapped into memory, filled from its front, and then used again.

Its space is taken when it is made, so that nothing written to it later can find the disk full. A line that was copied
into the mapping outlives the process from that instant; it outlives the machine once `fdatasync` has returned. Each
line is framed by its length and CRC-32; the first that does not agree is where the file ends. The CRC begins with the
number that the file's head has: it is another one each time the file is begun, so that what an earlier use left behind
the last line is no line of this one.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from carrel.durability import sync_directory
from carrel.errors import CarrelError, StorageFailed, lacking

MAGIC: Final = b"carrel journal 2"
OLDER: Final = b"carrel journal 1"
"""A file of this kind has no number in its head: its name is its number, and CRCs begin with 0."""
HEAD: Final = struct.Struct("<16sQ")
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
        self.worn = False
        """Whether the disk refused to take it once: it is not used again."""
        self._map = mapped
        self._size = len(mapped)
        self._at = HEAD.size
        self._seed = 0

    @classmethod
    def create(cls, path: Path, size: int) -> "Segment":
        """A new file of ``size`` bytes, on the disk with its name. Blocks. Raises StorageFailed."""
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

    def begin(self, number: int) -> None:
        """Use it from its front as the file of this number. What it held before is no longer to be needed."""
        self._map[: HEAD.size] = HEAD.pack(MAGIC, number)
        self._seed = number & 0xFFFFFFFF
        self._at = HEAD.size
        self.last = 0
        self.tariffs = set()

    def rest(self) -> None:
        """Give back the memory that it takes, until it is begun again."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def append(self, line: bytes) -> None:
        """Write one line; the caller has seen to it that there is room."""
        end = self._at + FRAME.size + len(line)
        self._map[self._at : end] = FRAME.pack(len(line), zlib.crc32(line, self._seed)) + line
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
    number, at = _head(data[: HEAD.size])
    if number is None:
        return
    seed = number & 0xFFFFFFFF
    while at + FRAME.size <= len(data):
        length, crc = FRAME.unpack_from(data, at)
        line = data[at + FRAME.size : at + FRAME.size + length]
        if length == 0 or len(line) != length or zlib.crc32(line, seed) != crc:
            return
        yield line
        at += FRAME.size + length


def order_of(path: Path) -> int:
    """The place of a file among those of its journal: the number that it was begun with, or else of its name."""
    with path.open("rb") as file:
        number, _ = _head(file.read(HEAD.size))
    name = path.name.removesuffix(SUFFIX)
    return number or (int(name) if name.isdecimal() else 0)


def _head(data: bytes) -> tuple[int | None, int]:
    """The number in a file's head, None where it is no file of a journal, and where its lines begin."""
    if data.startswith(OLDER):
        return 0, len(OLDER)
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        return None, 0
    return HEAD.unpack(data)[1], HEAD.size


def translated(error: OSError) -> CarrelError:
    """An error of the journal's files as one of ours."""
    return lacking(error, "no new model calls are taken until it takes their rows; reads go on") or StorageFailed(
        f"The ledger's journal cannot be written: {os.strerror(error.errno or 0)}."
    )


def _fill(fd: int, size: int) -> None:
    """Real zeros, not a hole: a promise that every file system keeps."""
    os.write(fd, HEAD.pack(MAGIC, 0))
    left = size - HEAD.size
    while left > 0:
        left -= os.write(fd, _ZEROS[: min(left, len(_ZEROS))])
