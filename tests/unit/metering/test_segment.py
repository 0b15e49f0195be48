import errno
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import CarrelError, StorageFailed, StorageFull
from carrel.metering.segment import FRAME, HEAD, MAGIC, OLDER, Segment, framed, order_of, read_lines, translated


def test_lines_are_read_back_without_a_close(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.journal", 4096)
    assert segment.room == 4096 - HEAD.size
    segment.append(b"one")
    segment.append(b"two" * 10)
    assert segment.room == 4096 - HEAD.size - framed(b"one") - framed(b"two" * 10)
    assert list(read_lines(tmp_path / "1.journal")) == [b"one", b"two" * 10]
    segment.close()
    segment.close()


def test_a_file_of_that_name_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "1.journal").write_bytes(b"somebody's")
    with pytest.raises(CarrelError):
        Segment.create(tmp_path / "1.journal", 4096)
    assert (tmp_path / "1.journal").read_bytes() == b"somebody's"


@given(at=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_the_file(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    path = tmp_path_factory.mktemp("s") / "1.journal"
    segment = Segment.create(path, 4096)
    lines = [b"first line", b"second line", b"third line"]
    for line in lines:
        segment.append(line)
    segment.close()
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
    found = list(read_lines(path))
    assert found == lines[: len(found)]
    if at < HEAD.size - 4:
        assert found == []
    elif HEAD.size <= at < HEAD.size + sum(framed(line) for line in lines):
        assert len(found) == [at < HEAD.size + sum(framed(x) for x in lines[: n + 1]) for n in range(3)].index(True)


def test_a_length_beyond_the_file_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "1.journal"
    path.write_bytes(HEAD.pack(MAGIC, 0) + FRAME.pack(1 << 31, 0) + b"x" * 100)
    assert list(read_lines(path)) == []
    path.write_bytes(b"")
    assert list(read_lines(path)) == []


def test_a_file_that_is_begun_again_has_only_its_new_lines(tmp_path: Path) -> None:
    path = tmp_path / "0000000001.journal"
    segment = Segment.create(path, 4096)
    segment.begin(7)
    for line in (b"the first", b"the second", b"the third"):
        segment.append(line)
    segment.last = 3
    assert (list(read_lines(path)), order_of(path)) == ([b"the first", b"the second", b"the third"], 7)
    segment.rest()
    segment.begin(9)
    assert (segment.room, segment.last, segment.tariffs) == (4096 - HEAD.size, 0, set())
    assert (list(read_lines(path)), order_of(path)) == ([], 9)
    segment.append(b"as long..")
    # The line of before stands whole behind it.
    assert b"the second" in path.read_bytes()
    assert list(read_lines(path)) == [b"as long.."]
    segment.close()


def test_a_head_that_the_disk_did_not_take_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "0000000001.journal"
    segment = Segment.create(path, 4096)
    segment.begin(7)
    segment.append(b"old")
    before = path.read_bytes()
    segment.begin(8)
    segment.append(b"new")
    after = path.read_bytes()
    path.write_bytes(before[: HEAD.size] + after[HEAD.size :])
    assert (list(read_lines(path)), order_of(path)) == ([], 7)
    path.write_bytes(after[: HEAD.size] + before[HEAD.size :])
    assert (list(read_lines(path)), order_of(path)) == ([], 8)
    segment.close()


def test_a_file_of_before_files_had_numbers(tmp_path: Path) -> None:
    path = tmp_path / "0000000004.journal"
    lines = [b"one", b"two"]
    path.write_bytes(OLDER + b"".join(FRAME.pack(len(line), zlib.crc32(line)) + line for line in lines) + bytes(100))
    assert (list(read_lines(path)), order_of(path)) == (lines, 4)
    odd = tmp_path / "odd.journal"
    odd.write_bytes(b"")
    assert (list(read_lines(odd)), order_of(odd)) == ([], 0)


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_errors(code: int, *, full: bool) -> None:
    assert isinstance(translated(OSError(code, "x")), StorageFailed)
    assert isinstance(translated(OSError(code, "x")), StorageFull) == full
