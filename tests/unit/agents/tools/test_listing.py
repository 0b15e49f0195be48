"""`file_list` tells what there is, and follows nothing."""

import os

import pytest

from carrel.agents.tools.listing import MAX_ENTRIES, FileList
from carrel.errors import NotFound, UnsafePath
from tests.unit.agents.tools.conftest import Rig


async def test_a_directory_is_listed(rig: Rig) -> None:
    (rig.path / "b").mkdir()
    (rig.path / "b/inner.txt").write_text("x")
    (rig.path / "a.txt").write_text("four")
    (rig.path / "link").symlink_to("/etc")
    os.mkfifo(rig.path / "pipe")
    (rig.path / "new\nline\x1b[0m").write_text("")
    listed = await rig.run(FileList())
    assert listed.content.splitlines() == [
        "a.txt  4", "b/", "link@", "new\\x0aline\\x1b[0m  0", "pipe  (no plain file)"
    ]  # fmt: skip
    assert (await rig.run(FileList(), path="/workspace/b")).content == "inner.txt  1"


async def test_a_recursive_list_has_what_is_below(rig: Rig) -> None:
    (rig.path / "a/b").mkdir(parents=True)
    (rig.path / "a/b/c").write_text("x")
    (rig.path / "a/loop").symlink_to("..")
    listed = await rig.run(FileList(), recursive=True)
    assert listed.content.splitlines() == ["a/", "a/b/", "a/b/c  1", "a/loop@"]


async def test_it_is_bounded_in_entries_and_levels(rig: Rig) -> None:
    deep = rig.path
    for _ in range(30):
        deep /= "d"
        deep.mkdir()
    listed = await rig.run(FileList(), recursive=True)
    assert len(listed.content.splitlines()) < 20
    assert "[Cut:" in listed.content
    (rig.path / "many").mkdir()
    for number in range(MAX_ENTRIES + 10):
        (rig.path / "many" / str(number)).touch()
    assert "[Cut:" in (await rig.run(FileList(), path="many")).content


async def test_what_cannot_be_opened_is_said_and_the_rest_listed(rig: Rig) -> None:
    name = "n" * 250
    at = os.open(rig.path, os.O_RDONLY)
    for _ in range(15):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    (rig.path / "z").touch()
    assert (await rig.run(FileList(), recursive=True)).content.splitlines()[-1] == "z  0"


async def test_empty_missing_and_elsewhere(rig: Rig) -> None:
    assert (await rig.run(FileList())).content == "/workspace is empty."
    with pytest.raises(NotFound, match="There is no /workspace/x"):
        await rig.run(FileList(), path="x")
    for path in ("/etc", "..", "link"):
        (rig.path / "link").unlink(missing_ok=True)
        (rig.path / "link").symlink_to("/etc")
        with pytest.raises(UnsafePath):
            await rig.run(FileList(), path=path)
