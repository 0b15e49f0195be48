"""What the doctor finds of git's: the work tree, and the way of a push."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from carrel.cli import by_git
from carrel.vcs.home import GitHome


def test_the_work_tree_and_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = tmp_path / "tenants.d"
    declared.mkdir()
    assert "no git work tree" in by_git.history(declared, 0).text
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    owner = tmp_path.stat().st_uid
    assert by_git.history(declared, owner).state == "ok"
    other = by_git.history(declared, owner + 1)
    assert other.state == "warning"
    assert f"safe.directory {tmp_path}" in other.mend
    monkeypatch.setattr("os.access", lambda path, mode, **_: not mode & os.W_OK)
    assert "can commit no change" in by_git.history(declared, owner).text
    monkeypatch.setenv("PATH", "/nowhere")
    assert "not committed" in by_git.history(declared, owner).text


def test_changes_that_are_in_no_commit(tmp_path: Path) -> None:
    git = ("git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "acme.yaml").write_text("{}\n")
    owner = tmp_path.stat().st_uid
    found = by_git.history(tmp_path, owner)
    assert (found.state, found.text) == ("warning", "acme.yaml: changes that are in no commit.")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    assert by_git.history(tmp_path, owner).state == "ok"


def test_a_repository_starts_nothing_of_its_own_while_it_is_looked_at(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    mark = tmp_path / "ran"
    config = f"touch {mark}"
    subprocess.run(["git", "-C", str(tmp_path), "config", "core.fsmonitor", config], check=True)
    by_git.history(tmp_path, tmp_path.stat().st_uid)
    assert not mark.exists()


def test_a_push_needs_its_hooks_program_and_an_account_with_a_shell(tmp_path: Path) -> None:
    def found(shell: str = "/bin/sh") -> tuple[str, str]:
        (one,) = by_git.push(tmp_path, lambda _: ("carrel", shell))
        return one.state, one.text

    assert list(by_git.push(tmp_path)) == [], "no repository takes pushes here"
    asyncio.run(GitHome(tmp_path, "/bin/true").make())
    assert found()[0] == "ok"
    for shell in ("/usr/sbin/nologin", "/bin/false", ""):
        state, text = found(shell)
        assert (state, "SSH runs nothing for it" in text) == ("fault", True), shell
    (one,) = by_git.push(tmp_path)
    assert one.state == "ok" or os.geteuid() != 0, one.text
    asyncio.run(GitHome(tmp_path, str(tmp_path / "gone")).make())
    assert found()[0] == "fault"
    assert "every push is refused" in found()[1]
    (tmp_path / "git" / "hooks" / "pre-receive").unlink()
    assert "carrel git init" in found()[1]


def test_what_is_in_git_and_not_in_force() -> None:
    assert list(by_git.followed({"tenants": []})) == list(by_git.followed("no document")) == []
    pulled = {"mode": "pull", "url": "https://git.example/t", "pull": "Ready", "message": "0123 is the newest"}
    (fine,) = by_git.followed({"git": pulled})
    assert (fine.what, fine.state) == ("pull", "ok")
    (away,) = by_git.followed({"git": {**pulled, "pull": "Unreachable", "message": "No such host."}})
    assert (away.what, away.state, "No such host." in away.text) == ("pull", "fault", True)
    (refused,) = by_git.followed({"git": {"mode": "push", "refused": "f" * 40, "reason": "acme.yaml:1:1: what"}})
    assert (refused.what, refused.state, "acme.yaml:1:1" in refused.text) == ("revision", "fault", True)
    assert all(one.why for one in (fine, away, refused))
