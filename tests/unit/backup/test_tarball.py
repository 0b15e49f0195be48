"""S9.1: what is taken of a tar that nobody vouches for, and what is not; both made by the library that everyone has."""

import io
import os
import tarfile
from collections.abc import Callable

import pytest

from carrel.backup.tarball import members
from carrel.errors import UnsafePath

Change = Callable[[tarfile.TarInfo], None]


def packed(*infos: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in infos:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    out.seek(0)
    return out


def info(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mtime = kind, 7
    for key, value in more.items():
        setattr(made, key, value)
    return made


def taken(stream: io.BytesIO) -> list[tuple[str, bool, bytes]]:
    return [(one.path, one.directory, b"".join(one.content)) for one in members(stream)]


def test_files_and_directories_come_as_they_are() -> None:
    long, odd = "d/" + "x" * 180 + "/" + "y" * 200, "d/zoë"
    data = os.urandom(3000)
    stream = packed((info("d", tarfile.DIRTYPE), b""), (info(long), data), (info(odd), b""), (info("last"), b"x" * 512))
    assert taken(stream) == [("d", True, b""), (long, False, data), (odd, False, b""), ("last", False, b"x" * 512)]


def test_what_was_not_read_is_passed_over() -> None:
    stream = packed((info("a"), b"a" * 5000), (info("b"), b"b"))
    assert [one.path for one in members(stream)] == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a hard link"), (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"), (tarfile.FIFOTYPE, "a pipe"), (b"V", "an extension"), (b"S", "an extension"),
    ],
)  # fmt: skip
def test_S9_01_what_is_neither_file_nor_directory_is_refused_by_name(kind: bytes, said: str) -> None:
    with pytest.raises(UnsafePath, match=f"'evil' is {said}"):
        taken(packed((info("evil", kind, linkname="target"), b"")))


@pytest.mark.parametrize(
    "headers", [{"size": "99999999999"}, {"path": "a", "linkpath": "/etc/passwd"}, {"GNU.sparse.realsize": "1"}]
)
def test_S9_01_an_extended_head_says_a_path_and_nothing_else(headers: dict[str, str]) -> None:
    with pytest.raises(UnsafePath, match="something else than a path"):
        taken(packed((info("a", pax_headers=headers), b"x")))


def test_S9_01_an_extended_head_of_megabytes_is_refused_unread() -> None:
    stream = packed((info("a" * 200_000), b""))
    with pytest.raises(UnsafePath, match="An extended head is none"):
        taken(stream)
    assert stream.tell() <= 1024


def test_S9_01_extended_heads_without_end_are_refused_at_the_second() -> None:
    head = info("x" * 200).tobuf(tarfile.PAX_FORMAT)[:1536]
    stream = io.BytesIO(head[:1024] * 1000)
    with pytest.raises(UnsafePath, match="followed by another"):
        taken(stream)
    assert stream.tell() <= 2048
    with pytest.raises(UnsafePath, match="followed by nothing"):
        taken(io.BytesIO(head[:1024] + bytes(1024)))


def test_S9_01_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(UnsafePath, match="no UTF-8"):
        taken(packed((info("a\udcff"), b""), form=tarfile.USTAR_FORMAT))


@pytest.mark.parametrize("size", [600, 1200, 1600])
def test_S9_01_one_that_is_cut_short_is_refused(size: int) -> None:
    whole = packed((info("a"), b"x" * 1000), (info("b"), b"y"))
    with pytest.raises(UnsafePath, match="ends"):
        taken(io.BytesIO(whole.getvalue()[:size]))


def test_S9_01_a_damaged_head_is_refused() -> None:
    whole = bytearray(packed((info("a"), b"x")).getvalue())
    whole[0] ^= 1
    with pytest.raises(UnsafePath, match="checksum"):
        taken(io.BytesIO(bytes(whole)))
    with pytest.raises(UnsafePath, match="no tar file"):
        taken(io.BytesIO(b"x" * 2048))


def test_S9_01_sizes_are_plain_numbers() -> None:
    whole = packed((info("a"), b"x"))
    block = bytearray(whole.getvalue())
    block[124:136] = b"\x80" + b"\xff" * 11
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block[:512])
    with pytest.raises(UnsafePath, match="size in the archive is no number"):
        taken(io.BytesIO(bytes(block)))
