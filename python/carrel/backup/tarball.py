"""The members of a tar file, from a stream that nobody vouches for. Pure but for reading.

It takes what POSIX calls ustar, and of its extensions long paths alone: files and directories, each name once, sizes
as they are said. Links, devices, sparse files, sizes in extensions and names that are no UTF-8 are refused.
Format: POSIX.1-2017, pax, "ustar Interchange Format".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from carrel.errors import UnsafePath

BLOCK: Final = 512
_PIECE: Final = 1 << 20
_MOST_EXTENSION: Final = 16 << 10
_KINDS: Final = {
    b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"7": "a special file",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """One member. ``content`` is to be read, or left, before the next member is asked for."""

    path: str
    directory: bool
    mode: int
    mtime: int
    size: int
    content: Iterator[bytes]


def members(stream: BinaryIO) -> Iterator[Member]:
    """The members in their order; raises UnsafePath for what is not as it should be."""
    longer: str | None = None
    while True:
        block = _exactly(stream, BLOCK)
        if not block.strip(b"\0"):
            if longer is not None:
                raise UnsafePath("An extended head is followed by nothing.")
            return
        _judge(block)
        size = _number(block[124:136], "size")
        kind = block[156:157]
        if kind == b"x":
            if longer is not None:
                raise UnsafePath("An extended head is followed by another.")
            longer = _path_of(_exactly(stream, size) if size <= _MOST_EXTENSION else b"")
            _skip(stream, -size % BLOCK)
            continue
        path = longer if longer is not None else _name(block)
        longer = None
        if kind not in (b"0", b"\0", b"5"):
            what = _KINDS.get(kind, "an extension")
            raise UnsafePath(f"{path[:200]!r} is {what}: the archive of a tenant has files and directories alone.")
        if kind == b"5" and size:
            raise UnsafePath(f"{path[:200]!r} is a directory and has a content.")
        content = _content(stream, size)
        yield Member(
            path.removesuffix("/") if kind == b"5" else path, kind == b"5", _number(block[100:108], "mode") & 0o777,
            _number(block[136:148], "time"), size, content,
        )  # fmt: skip
        for _ in content:
            pass
        _skip(stream, -size % BLOCK)


def _content(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = stream.read(min(_PIECE, left))
        if not piece:
            raise UnsafePath("The archive ends in the middle of a file.")
        left -= len(piece)
        yield piece


def _judge(block: bytes) -> None:
    if block[257:263] not in (b"ustar\0", b"ustar "):
        raise UnsafePath("It is no tar file of the kind that an export makes.")
    stated = _number(block[148:156], "checksum")
    if stated != sum(block[:148]) + 8 * ord(" ") + sum(block[156:]):
        raise UnsafePath("A head in the archive is damaged: its checksum does not match.")


def _name(block: bytes) -> str:
    name, prefix = (part.split(b"\0", 1)[0] for part in (block[:100], block[345:500]))
    whole = prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name
    return _text(whole)


def _path_of(extension: bytes) -> str:
    """The path in an extended head, which may say nothing else."""
    at, path = 0, None
    while at < len(extension):
        space = extension.find(b" ", at, at + 8)
        if space < 0 or not extension[at:space].isdigit():
            break
        end = at + int(extension[at:space])
        record = extension[space + 1 : end]
        if end > len(extension) or end <= space or not record.endswith(b"\n"):
            break
        key, _, value = record[:-1].partition(b"=")
        if key != b"path" or path is not None:
            raise UnsafePath("An extended head says something else than a path.")
        path = _text(value)
        at = end
    if path is None or at != len(extension):
        raise UnsafePath("An extended head is none.")
    return path


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UnsafePath(f"{data[:200]!r} is no UTF-8.") from None


def _number(field: bytes, what: str) -> int:
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise UnsafePath(f"A {what} in the archive is no number.")
    return int(digits, 8)


def _skip(stream: BinaryIO, size: int) -> None:
    if size:
        _exactly(stream, size)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.read(size - len(data))
        if not piece:
            raise UnsafePath("The archive ends before its end.")
        data += piece
    return data
