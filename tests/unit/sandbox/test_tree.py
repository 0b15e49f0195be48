"""A copy of what strangers left: whole where it can be, never out of the tree, and never sharing what is written to."""

import os
import random
import socket
import threading
from pathlib import Path

import pytest

from carrel.errors import TooLarge
from carrel.sandbox.tree import Copied, Limits, Stopped, copy_tree, state_of


def copied(source: Path, target: Path, *, most: int = 1 << 30) -> Copied:
    target.mkdir(exist_ok=True)
    a, b = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        return copy_tree(a, b, Limits(most))
    finally:
        os.close(a)
        os.close(b)


def test_files_directories_links_modes_and_times(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_bytes(b"x" * 3_000_000)
    (source / "deep/er/file").chmod(0o640)
    os.utime(source / "deep/er/file", ns=(1_000_000_000, 2_000_000_000))
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "odd\nname").write_text("odd")
    (source / "link").symlink_to("/etc/passwd")
    (source / "empty").mkdir(mode=0o750)
    done = copied(source, target)
    assert done.left_out == 0
    assert (target / "deep/er/file").read_bytes() == b"x" * 3_000_000
    assert (target / "deep/er/file").stat().st_mode & 0o777 == 0o640
    assert (target / "deep/er/file").stat().st_mtime_ns == 2_000_000_000
    assert (target / "run").stat().st_mode & 0o777 == 0o755
    assert (target / "odd\nname").read_text() == "odd"
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert (target / "empty").is_dir()


def test_what_is_half_written_is_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / ".carrel-0123456789abcdef.tmp").write_text("hal")
    (source / "deep" / ".carrel-notes.tmp").write_text("whole")
    copied(source, target)
    assert [path.name for path in target.rglob("*")] == ["deep", ".carrel-notes.tmp"]


def test_nothing_is_shared_with_what_is_written_to_afterwards(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    (source / "one").write_text("before")
    os.link(source / "one", source / "two")
    copied(source, target)
    (source / "one").write_text("after!")
    assert (target / "one").read_text() == (target / "two").read_text() == "before"
    assert (target / "one").stat().st_nlink == 1


def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    with (source / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(100 << 20)
        file.write(b"end")
        file.truncate(200 << 20)
    copied(source, target)
    made = (target / "sparse").stat()
    assert made.st_size == 200 << 20
    assert made.st_blocks * 512 < 10 << 20
    with (target / "sparse").open("rb") as file:
        assert file.read(5) == b"start"
        file.seek(100 << 20)
        assert file.read(3) == b"end"


def test_what_is_no_file_is_left_out_and_holds_up_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
        (source / "file").write_text("kept")
        done = copied(source, target)
    assert done.left_out == 2
    assert sorted(path.name for path in target.iterdir()) == ["file"]


def test_a_directory_that_is_closed_to_its_owner_is_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    (source / "closed").mkdir(parents=True)
    (source / "closed/file").write_text("kept")
    (source / "closed").chmod(0)
    copied(source, target)
    (target / "closed").chmod(0o700)
    assert (target / "closed/file").read_text() == "kept"
    (source / "closed").chmod(0o700)


def test_a_tree_of_any_depth_comes_to_an_end(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    at = os.open(source, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=at)
        inner = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    assert copied(source, target).left_out == 1


def test_it_is_over_where_it_is_too_large_or_not_wanted_any_more(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    (source / "large").write_bytes(b"x" * 1_000_000)
    with pytest.raises(TooLarge):
        copied(source, target, most=100_000)
    (tmp_path / "c").mkdir()
    a, b = os.open(source, os.O_RDONLY), os.open(tmp_path / "c", os.O_RDONLY)
    with pytest.raises(Stopped):
        copy_tree(a, b, Limits(1 << 30, going=lambda: False))
    os.close(a)
    os.close(b)


def test_a_link_that_takes_a_files_place_meanwhile_leads_nowhere(tmp_path: Path) -> None:
    source, outside = tmp_path / "a", tmp_path / "outside"
    source.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("canary-of-the-host")
    stop = threading.Event()

    def exchange() -> None:
        rng = random.Random(1)  # noqa: S311 - to vary the moment
        while not stop.is_set():
            for name, kind in (("d", rng.random() < 0.5), ("f", rng.random() < 0.5)):
                path = source / name
                try:
                    if path.is_symlink() or path.is_file():
                        path.unlink()
                    elif path.is_dir():
                        (path / "secret").unlink(missing_ok=True)
                        path.rmdir()
                    if kind:
                        path.symlink_to(outside if name == "d" else outside / "secret")
                    elif name == "d":
                        path.mkdir()
                        (path / "secret").write_text("mine")
                    else:
                        path.write_text("mine")
                except OSError:
                    continue

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for number in range(300):
            target = tmp_path / f"t{number}"
            copied(source, target)
            for path in target.rglob("*"):
                if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
                    assert "canary" not in path.read_text()
    finally:
        stop.set()
        thread.join()


def test_where_content_cannot_be_shared_so_much_is_written_and_no_more(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.mkdir()
    (source / "file").write_bytes(b"x" * 1_000_000)
    shares = copied(source, tmp_path / "b").unshared == 0
    (tmp_path / "c").mkdir()
    a, b = os.open(source, os.O_RDONLY), os.open(tmp_path / "c", os.O_RDONLY)
    try:
        if shares:
            assert copy_tree(a, b, Limits(1 << 30, most_unshared=0)).unshared == 0
        else:
            with pytest.raises(TooLarge, match="cannot share content"):
                copy_tree(a, b, Limits(1 << 30, most_unshared=999_999))
            (tmp_path / "c/file").unlink()
            assert copy_tree(a, b, Limits(1 << 30, most_unshared=2_000_000)).unshared >= 1_000_000
    finally:
        os.close(a)
        os.close(b)


def test_a_state_is_that_of_a_tree_nobody_changes(tmp_path: Path) -> None:
    source = tmp_path / "a"
    (source / "deep").mkdir(parents=True)
    (source / "link").symlink_to("nowhere")
    fd = os.open(source, os.O_RDONLY)
    first = state_of(fd, Limits(0))
    assert state_of(fd, Limits(0)) == first
    (source / "deep/file").touch()
    assert state_of(fd, Limits(0)) != first
    with pytest.raises(TooLarge):
        state_of(fd, Limits(0, most_entries=2))
    with pytest.raises(Stopped):
        state_of(fd, Limits(0, going=lambda: False))
    os.close(fd)
