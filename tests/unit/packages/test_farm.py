"""One directory of a closure's paths: links where they can be had, copies where not, nothing half."""

import errno
import os
from pathlib import Path

import pytest

from carrel.packages import farm


@pytest.fixture
def store(tmp_path: Path) -> Path:
    program = tmp_path / "store" / "jq" / "bin" / "jq"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"x" * 100_000)
    program.chmod(0o555)
    os.utime(program, (1, 1))
    (tmp_path / "store" / "jq" / "jq").symlink_to("bin/jq")
    (tmp_path / "store" / "note").write_text("a path that is a file")
    return tmp_path / "store"


def paths(store: Path) -> list[tuple[str, Path]]:
    return [(path.name, path) for path in sorted(store.iterdir())]


def refused(number: int, only: Path | None = None) -> object:
    """In place of a link: the error ``number``, for files beneath ``only``."""

    def link(source: Path, target: Path) -> None:
        if only is None or source.is_relative_to(only):
            raise OSError(number, os.strerror(number))
        target.hardlink_to(source)

    return link


def test_files_are_the_stores_own(store: Path, tmp_path: Path) -> None:
    assert farm.make(tmp_path / "farm", paths(store), (), copies=False)
    assert (tmp_path / "farm/jq/bin/jq").samefile(store / "jq/bin/jq")
    assert (tmp_path / "farm/jq/jq").readlink() == Path("bin/jq")
    assert (tmp_path / "farm/note").samefile(store / "note")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV, errno.EMLINK])
def test_what_cannot_be_linked_is_copied_as_it_is(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(farm, "_link", refused(number, store))
    assert farm.make(tmp_path / "one", paths(store), (), copies=True)
    copied = tmp_path / "one/jq/bin/jq"
    assert not copied.samefile(store / "jq/bin/jq")
    assert copied.read_bytes() == b"x" * 100_000
    assert (copied.stat().st_mode & 0o777, copied.stat().st_mtime) == (0o555, 1)
    assert farm.make(tmp_path / "two", paths(store), [tmp_path / "none", tmp_path / "one"], copies=True)
    assert (tmp_path / "two/jq/bin/jq").samefile(copied)


def test_where_the_kernel_cannot_copy_we_do(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(farm, "_link", refused(errno.EXDEV))
    monkeypatch.setattr(os, "copy_file_range", cannot)
    assert farm.make(tmp_path / "farm", paths(store), (), copies=True)
    assert (tmp_path / "farm/jq/bin/jq").read_bytes() == b"x" * 100_000


def test_where_copies_are_not_allowed_there_is_no_farm(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm, "_link", refused(errno.EPERM))
    assert not farm.make(tmp_path / "farm", paths(store), (), copies=False)
    assert not (tmp_path / "farm").exists()


def test_another_error_is_raised(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "_link", refused(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        farm.make(tmp_path / "farm", paths(store), (), copies=True)


def test_a_tree_whose_directories_are_read_only_is_removed(store: Path, tmp_path: Path) -> None:
    assert farm.make(tmp_path / "farm", paths(store), (), copies=False)
    (tmp_path / "farm").chmod(0o555)
    farm.remove(tmp_path / "farm")
    assert not (tmp_path / "farm").exists()
    farm.remove(tmp_path / "farm")
    assert (store / "jq/bin/jq").exists()
