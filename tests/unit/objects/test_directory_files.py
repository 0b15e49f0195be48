"""Large files in a directory: whole or not at all, nothing replaced unasked, and what a death left overwritten."""

import fcntl
import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from carrel.errors import CarrelError
from carrel.objects.directory_files import DirectoryFiles
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectChanged, ObjectMissing

NAME = "acme.tar.gz"


class Place:
    def __init__(self, path: Path) -> None:
        self.path, self.pace, self.told = path, Pace(), 0
        self.files = DirectoryFiles(path, pace=self.pace)

    def count(self, more: int) -> None:
        self.told += more

    def send(self, source: Path, *, replaces: bool = False) -> None:
        self.files.send(NAME, source, replaces=replaces, counts=self.count)

    def content(self) -> bytes:
        stream, size = self.files.read(NAME, counts=self.count)
        with stream:
            data = stream.read()
        assert len(data) == size
        return data

    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "deep/er")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom((3 << 20) + 7))
    return path


def test_what_was_sent_comes_back(place: Place, source: Path) -> None:
    place.send(source)
    assert place.content() == source.read_bytes()
    assert place.told == 2 * source.stat().st_size
    assert (place.names(), (place.path / NAME).stat().st_mode & 0o777) == ([NAME], 0o600)


def test_what_is_there_is_replaced_only_where_that_is_said(place: Place, source: Path) -> None:
    place.path.mkdir(parents=True)
    (place.path / NAME).write_bytes(b"old")
    with pytest.raises(ObjectChanged, match="already"):
        place.send(source)
    assert place.content() == b"old"
    place.send(source, replaces=True)
    assert place.content() == source.read_bytes()


def test_one_that_came_meanwhile_is_not_replaced(place: Place, source: Path) -> None:
    def comes(more: int) -> None:
        (place.path / NAME).write_bytes(b"another's")

    with pytest.raises(ObjectChanged, match="already"):
        place.files.send(NAME, source, replaces=False, counts=comes)
    assert (place.content(), place.names()) == (b"another's", [NAME])


def test_where_a_file_system_has_no_links(place: Place, source: Path) -> None:
    with patch("os.link", side_effect=PermissionError(1, "no links")):
        place.send(source)
        with pytest.raises(ObjectChanged, match="already"):
            place.send(source)
    assert (place.content(), place.names()) == (source.read_bytes(), [NAME])


def test_what_is_stopped_leaves_nothing(place: Place, source: Path) -> None:
    with pytest.raises(Cancelled):
        place.files.send(NAME, source, replaces=False, counts=lambda _: place.pace.stop())
    assert place.names() == []


def half_copy(place: Place, source: Path) -> Path:
    """What a death leaves, as it is called while it is written."""
    seen: list[Path] = []
    place.files.send(NAME, source, replaces=True, counts=lambda _: seen.extend(place.path.glob(".carrel-upload-*")))
    (place.path / NAME).unlink()
    seen[0].write_bytes(b"half" * 2_000_000)
    return seen[0]


def test_what_a_death_left_is_overwritten_by_the_next_of_that_name(place: Place, source: Path) -> None:
    half_copy(place, source)
    place.send(source)
    assert (place.content(), place.names()) == (source.read_bytes(), [NAME])


def test_what_is_left_and_old_goes_unless_somebody_writes_it(place: Place, source: Path) -> None:
    left = half_copy(place, source)
    now = datetime.now(UTC)
    assert place.files.end_left(now - timedelta(days=1)) == 0
    with left.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert place.files.end_left(now + timedelta(days=1)) == 0
        with pytest.raises(ObjectChanged, match="another export"):
            place.send(source)
    assert place.files.end_left(now + timedelta(days=1)) == 1
    assert place.names() == []
    assert DirectoryFiles(place.path / "never", pace=Pace()).end_left(now) == 0


def test_the_pieces_of_backups_are_not_looked_through(place: Place, source: Path) -> None:
    """There may be millions of them."""
    left = half_copy(place, source)
    for folder in ("acme/pieces/ab", "acme/manifests", "acme/archives"):
        (place.path / folder).mkdir(parents=True)
        (place.path / folder / left.name).write_bytes(b"half")
    assert place.files.end_left(datetime.now(UTC) + timedelta(days=1)) == 2
    assert [path.parent.name for path in place.path.rglob(left.name)] in (["ab", "manifests"], ["manifests", "ab"])


def test_a_disk_that_takes_half_of_the_last_block_is_full(place: Place, source: Path) -> None:
    """It says so at the next write alone, and there is none: half an archive would be told as whole."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (source.stat().st_size - 3, hard))
    try:
        with pytest.raises(CarrelError):
            place.send(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert place.names() == []


def test_what_somebody_else_takes_away_meanwhile_is_no_error(
    place: Place, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = half_copy(place, source)
    lstat = Path.lstat

    def gone(path: Path) -> os.stat_result:
        found = lstat(path)
        path.unlink()
        return found

    monkeypatch.setattr(Path, "lstat", gone)
    assert place.files.end_left(datetime.now(UTC) + timedelta(days=1)) == 0
    assert not os.path.lexists(left)


def test_what_is_no_file(place: Place, source: Path) -> None:
    with pytest.raises(ObjectMissing):
        place.content()
    (place.path / NAME).mkdir(parents=True)
    with pytest.raises(ObjectMissing, match="no file"):
        place.content()
    (place.path / NAME).rmdir()
    os.mkfifo(place.path / NAME)
    with pytest.raises(ObjectMissing, match="no file"):
        place.content()
    (place.path / NAME).unlink()
    (place.path / NAME).symlink_to(source)
    with pytest.raises(CarrelError):
        place.content()
    with pytest.raises(CarrelError):
        DirectoryFiles(Path("/proc/nowhere"), pace=Pace()).send(
            NAME, source, replaces=False, counts=place.count
        )  # fmt: skip
