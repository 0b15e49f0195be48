"""S9.1: a directory is read without following anything out of it, and without end."""

import os
from pathlib import Path

import pytest

from carrel.errors import CarrelError, NotFound, TooLarge, UnsafePath
from carrel.imports import source as source_module
from carrel.imports.source import Source


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "in").mkdir(parents=True)
    (top / "in/file").write_bytes(b"x" * 100)
    (tmp_path / "secret").write_text("secret")
    (top / "out").symlink_to(tmp_path / "secret")
    (top / "dir").symlink_to(tmp_path)
    os.mkfifo(top / "pipe")
    return top


def test_S9_01_links_and_pipes_are_told_and_not_followed(top: Path) -> None:
    with Source(top) as source:
        assert [(one.path, one.kind) for one in source.walk(".")] == [
            ("dir", "link"), ("in", "directory"), ("in/file", "file"), ("out", "link"), ("pipe", "other"),
        ]  # fmt: skip
        for path in ("out", "dir/secret", "../secret", "/etc/passwd", "pipe", "in"):
            with pytest.raises(UnsafePath):
                source.read(path, limit=1000)
        assert source.look("dir/secret") is None
        with pytest.raises(NotFound):
            source.read("none", limit=10)
        assert source.read("in/file", limit=100) == b"x" * 100
        with pytest.raises(TooLarge, match="100 bytes; 99"):
            source.read("in/file", limit=99)
        with source.below("in") as inner:
            assert [one.path for one in inner.names()] == ["file"]


def test_S9_01_too_many_names_end_it(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MOST_NAMES", 3)
    with Source(top) as source, pytest.raises(TooLarge, match="over 3 names"):
        list(source.walk("."))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CarrelError, match="No such file"):
        Source(tmp_path / "none")


def test_names_that_are_none_are_not_there(top: Path) -> None:
    with Source(top) as source:
        for name in ("a\0b", "in/a\0b", "..", "in/..", ".", "in/", "x" * 3000, "in/" + "x" * 300):
            assert source.look(name) is None, name
        for name in ("a\0b", "x" * 3000):
            with pytest.raises(CarrelError):
                source.read(name, limit=10)


def test_a_directory_that_is_there_and_closed_is_kept_in_mind(top: Path) -> None:
    with Source(top) as source:
        assert source.names("none") == []
        assert source.closed_to_us == {}
        assert source.names("dir") == []
        assert source.closed_to_us == {"dir": "it is a link, and none is followed"}
