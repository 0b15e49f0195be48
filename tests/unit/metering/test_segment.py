import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import CarrelError, StorageFull
from carrel.metering.segment import FRAME, MAGIC, Segment, framed, read_lines, translated


def test_lines_are_read_back_without_a_close(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path / "1.journal", 4096)
    assert segment.room == 4096 - len(MAGIC)
    segment.append(b"one")
    segment.append(b"two" * 10)
    assert segment.room == 4096 - len(MAGIC) - framed(b"one") - framed(b"two" * 10)
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
    if at < len(MAGIC):
        assert found == []
    elif at < len(MAGIC) + sum(framed(line) for line in lines):
        assert len(found) == [at < len(MAGIC) + sum(framed(x) for x in lines[: n + 1]) for n in range(3)].index(True)


def test_a_length_beyond_the_file_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "1.journal"
    path.write_bytes(MAGIC + FRAME.pack(1 << 31, 0) + b"x" * 100)
    assert list(read_lines(path)) == []
    path.write_bytes(b"")
    assert list(read_lines(path)) == []


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_errors(code: int, *, full: bool) -> None:
    assert isinstance(translated(OSError(code, "x")), StorageFull) == full
