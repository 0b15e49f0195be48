import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.errors import NotFound
from carrel.vcs.bare import BY_COMMAND, NONE, Bare, Moved
from carrel.vcs.git import Author
from carrel.vcs.tree import Limits
from tests.fakes.faulty_disk import FaultyDisk

WHO = Author("ops", "ops@example.org")


@pytest.fixture
async def bare(tmp_path: Path) -> Bare:
    made = Bare(tmp_path / "git" / "tenants.git")
    await made.init(receives=1 << 20)
    return made


async def add(bare: Bare, text: bytes, name: str = "acme.yaml") -> str:
    tip = await bare.tip()
    commit = await bare.commit_files(tip, {name: text}, f"add {name}\n", WHO)
    await bare.advance(commit, tip, WHO)
    return commit


async def test_it_is_made_once_and_again_without_harm(bare: Bare) -> None:
    assert await bare.tip() is None
    first = await add(bare, b"plan: pro\n")
    await bare.init(receives=1 << 21)
    assert await bare.tip() == first
    config = (bare.path / "config").read_text()
    assert "denyNonFastForwards = true" in config
    assert f"maxInputSize = {1 << 21}" in config
    assert await bare.pushes() != ()


async def test_files_are_committed_changed_and_taken_out_without_a_work_tree(bare: Bare) -> None:
    first = await add(bare, b"plan: pro\n")
    second = await bare.commit_files(first, {"acme.yaml": None, "x.yaml": b"\xff\x00"}, "change\n", WHO)
    entries = {e.path: e for e in await bare.entries(second, Limits())}
    assert list(entries) == ["x.yaml"]
    assert await bare.blobs(entries) == {"x.yaml": b"\xff\x00"}
    assert await bare.kind(second) == "commit"
    assert await bare.is_ancestor(first, second)
    assert not await bare.is_ancestor(second, first)


async def test_the_branch_moves_only_from_where_it_was_looked_at(bare: Bare) -> None:
    first = await add(bare, b"a: 1\n")
    mine = await bare.commit_files(first, {"mine.yaml": b""}, "mine\n", WHO)
    theirs = await add(bare, b"", "theirs.yaml")
    with pytest.raises(Moved):
        await bare.advance(mine, first, WHO)
    assert await bare.tip() == theirs


async def test_who_moved_it_and_how_is_kept(bare: Bare) -> None:
    first = await add(bare, b"a: 1\n")
    second = await add(bare, b"a: 2\n")
    newest, oldest = await bare.pushes()
    assert (newest.old, newest.new, newest.by, newest.how) == (first, second, "ops", BY_COMMAND)
    assert (oldest.old, oldest.new) == (NONE, first)


async def test_the_log_by_file(bare: Bare) -> None:
    await add(bare, b"a: 1\n")
    await add(bare, b"", "other.yaml")
    assert [c.subject for c in await bare.log("main", limit=10)] == ["add other.yaml", "add acme.yaml"]
    found = await bare.log("main", limit=10, paths=["acme.yaml"])
    assert [(c.subject, c.author) for c in found] == [("add acme.yaml", "ops")]


@pytest.mark.parametrize("text", ["--upload-pack=x", "main:acme.yaml", "", "no-such", "@{-1}", "a\nb", "HEAD^{/x}"])
async def test_what_names_no_commit_is_said_to(bare: Bare, text: str) -> None:
    await add(bare, b"a: 1\n")
    with pytest.raises(NotFound):
        await bare.commit_of(text)


async def test_what_is_here_is_known(bare: Bare) -> None:
    commit = await bare.commit_files(None, {"a.yaml": b"x"}, "begin\n", Author("a", "a@x"))
    assert await bare.has(commit)
    assert not await bare.has("0" * 39 + "1")


async def test_a_short_name_and_a_step_back_are_understood(bare: Bare) -> None:
    first = await add(bare, b"a: 1\n")
    await add(bare, b"a: 2\n")
    assert await bare.commit_of("main~1") == first
    assert await bare.commit_of(first[:10]) == first
    await bare.tidy()
    assert await bare.commit_of("main^") == first


def test_a_commit_that_was_acknowledged_outlives_a_power_cut(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    disk = FaultyDisk(tmp_path / "root", tmp_path / "store")
    try:
        disk.sync()
        program = f"""
import asyncio
from pathlib import Path
from carrel.vcs.bare import Bare
from carrel.vcs.git import Author
async def main():
    bare, by = Bare(Path({str(disk.root)!r}) / "git" / "tenants.git"), Author("ops", "ops@example.org")
    await bare.init(receives=1 << 20)
    commit = await bare.commit_files(None, {{"acme.yaml": b"plan: pro\\n"}}, "add\\n", by)
    await bare.advance(commit, None, by)
    print(commit)
asyncio.run(main())
"""
        env = {**os.environ, **disk.program_env, "PATH": disk.env["PATH"]}
        told = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
        disk.power_cut()
    finally:
        disk.close()
    git = ["git", "-C", str(disk.root / "git" / "tenants.git")]
    found = subprocess.run([*git, "rev-parse", "main"], capture_output=True, text=True, check=True).stdout
    assert found.strip() == told.stdout.strip() != ""
    assert subprocess.run([*git, "fsck", "--strict"], capture_output=True, check=False).returncode == 0
