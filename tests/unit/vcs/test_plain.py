import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from carrel.errors import Conflict, StorageFailed
from carrel.vcs import git, plain
from carrel.vcs.bare import Moved
from carrel.vcs.git import Author, GitFailed
from carrel.vcs.plain import Change, PlainDirectory, replace_if
from tests.fakes.repositories import Clone

WHO = Author("ops", "ops@example.org")


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_file_is_replaced_only_where_it_is_as_it_was(
    tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(plain, "_exchange", lambda one, other: False)
    file = tmp_path / "acme.yaml"
    file.write_bytes(b"old")
    file.chmod(0o640)
    replace_if(file, b"old", b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o640)
    file.write_bytes(b"somebody else's")
    for after in (b"mine", None):
        with pytest.raises(Moved, match="stays as they left it"):
            replace_if(file, b"new", after)
        assert file.read_bytes() == b"somebody else's"
    replace_if(file, b"somebody else's", None)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_file_system_that_takes_no_writes_is_told_as_that(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        file = tmp_path / "acme.yaml"
        file.write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        for after in (b"new", None):
            with pytest.raises(StorageFailed, match=r"tenants\.d is on a file system that takes no writes"):
                replace_if(file, b"old", after)
        assert file.read_bytes() == b"old"
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    replace_if(file, None, b"first")
    with pytest.raises(Moved):
        replace_if(file, None, b"second")
    assert file.read_bytes() == b"first"
    replace_if(tmp_path / "none.yaml", None, None)
    with pytest.raises(Moved):
        replace_if(tmp_path / "none.yaml", b"was there", b"x")
    with pytest.raises(Moved):
        replace_if(tmp_path / "none.yaml", b"was there", None)
    assert os.listdir(tmp_path) == ["acme.yaml"]


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "acme.yaml").symlink_to("target")
    with pytest.raises(Moved):
        replace_if(tmp_path / "acme.yaml", b"old", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"


async def test_all_of_a_change_is_made_or_none(tmp_path: Path) -> None:
    place = PlainDirectory(tmp_path)
    assert await place.write({"a.yaml": Change(None, b"a"), "b.yaml": Change(None, b"b")}, "x", WHO) is None
    changes = {"a.yaml": Change(b"a", b"A"), "b.yaml": Change(b"not so", b"B")}
    with pytest.raises(Moved):
        await place.write(changes, "x", WHO)
    assert (await place.read("a.yaml"), await place.read("b.yaml"), await place.read("c.yaml")) == (b"a", b"b", None)


async def test_it_is_committed_by_who_asked_and_taken_back_where_that_fails(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "clone")
    clone.commit({"a.yaml": "a: 1\n"})
    place = PlainDirectory(clone.path)
    commit = await place.write({"a.yaml": Change(b"a: 1\n", b"a: 2\n")}, "Change a\n", WHO)
    assert clone.git("log", "-1", "--format=%H %an %ae %s") == f"{commit} ops ops@example.org Change a"
    (clone.path / ".git" / "HEAD.lock").write_text("held by somebody")
    with pytest.raises(GitFailed):
        await place.write({"a.yaml": Change(b"a: 2\n", b"a: 3\n")}, "x", WHO)
    assert await place.read("a.yaml") == b"a: 2\n"


async def test_another_git_is_waited_for_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(tmp_path / "clone")
    clone.commit({"a.yaml": "a: 1\n"})
    place, lock = PlainDirectory(clone.path), clone.path / ".git" / "index.lock"
    lock.write_text("held by somebody")
    asyncio.get_running_loop().call_later(0.1, lock.unlink)
    assert await place.write({"a.yaml": Change(b"a: 1\n", b"a: 2\n")}, "x", WHO)
    lock.write_text("held by somebody")
    monkeypatch.setattr(git, "_FREE_SECONDS", 0.1)
    with pytest.raises(GitFailed, match=f"nothing was changed.*remove {lock}"):
        await place.write({"a.yaml": Change(b"a: 2\n", b"a: 3\n"), "new.yaml": Change(None, b"")}, "x", WHO)
    # Not for a moment: else a tenant would be made whom nobody declared.
    assert list(place.wrote) == ["a.yaml"]
    assert not (clone.path / "new.yaml").exists()


async def test_what_cannot_be_read_is_said_to_be(tmp_path: Path) -> None:
    subprocess.run(["mkfifo", str(tmp_path / "a.yaml")], check=True)
    with pytest.raises(Conflict, match="not a regular file"):
        await PlainDirectory(tmp_path).read("a.yaml")
