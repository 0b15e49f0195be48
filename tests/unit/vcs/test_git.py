import os
import shutil
import subprocess
from pathlib import Path

import pytest

from carrel.vcs.git import Author, Git, GitFailed

PLAIN = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}


def git(top: Path, *words: str) -> str:
    """The git program as a user would run it."""
    identity = ["-c", "user.name=U", "-c", "user.email=u@example.com", "-c", "safe.directory=*"]
    return subprocess.run(
        ["git", *identity, *words], cwd=top, env=PLAIN, check=True, capture_output=True, text=True
    ).stdout.strip()  # fmt: skip


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "-q", "-b", "main")
    (made / "README").write_text("x\n")
    git(made, "add", "README")
    git(made, "commit", "-q", "-m", "first")
    (made / "tenants.d").mkdir()
    return made


async def found(path: Path) -> Git:
    git = await Git.find(path)
    assert git is not None
    return git


async def test_a_work_tree_is_found_from_beneath(top: Path) -> None:
    repository = await found(top / "tenants.d")
    assert repository.top == top
    assert await repository.head() == git(top, "rev-parse", "HEAD")


async def test_outside_there_is_none(tmp_path: Path) -> None:
    assert await Git.find(tmp_path) is None


async def test_a_new_a_changed_and_a_removed_file_are_committed(top: Path) -> None:
    repository, file = await found(top / "tenants.d"), top / "tenants.d" / "acme.yaml"
    file.write_text("a: 1\n")
    first = await repository.commit([file], "Create tenant acme\n")
    assert first == git(top, "rev-parse", "HEAD")
    file.write_text("a: 2\n")
    assert await repository.commit([file], "Change it") != first
    file.unlink()
    assert await repository.commit([file], "Remove it") is not None
    assert git(top, "log", "--format=%s", "-3") == "Remove it\nChange it\nCreate tenant acme"
    assert git(top, "ls-files") == "README"


async def test_nothing_changed_is_no_commit(top: Path) -> None:
    repository, file = await found(top), top / "README"
    assert await repository.commit([file], "Nothing") is None
    assert await repository.commit([], "Nothing") is None
    assert await repository.commit([top / "tenants.d" / "never.yaml"], "Nothing") is None


async def test_other_work_is_left_alone(top: Path) -> None:
    (top / "staged").write_text("s\n")
    git(top, "add", "staged")
    (top / "README").write_text("dirty\n")
    file = top / "tenants.d" / "acme.yaml"
    file.write_text("a: 1\n")
    await (await found(top)).commit([file], "Only this")
    assert git(top, "show", "--name-only", "--format=", "HEAD") == "tenants.d/acme.yaml"
    assert git(top, "status", "--porcelain").splitlines() == ["M README", "A  staged"]


async def test_the_author_is_ours_where_git_names_none(top: Path) -> None:
    file = top / "a"
    file.write_text("1")
    await (await found(top)).commit([file], "m")
    assert git(top, "log", "-1", "--format=%an <%ae>").startswith("carrel <carrel@")


async def test_gits_own_author_is_kept_and_one_that_is_given_goes_over_it(top: Path) -> None:
    git(top, "config", "user.name", "Op Erator")
    git(top, "config", "user.email", "op@example.com")
    for text, author, shown in (
        ("1", None, "Op Erator <op@example.com>"),
        ("2", Author("A\n<x> B", "ak_ops@carrel"), "Ax B <ak_ops@carrel>"),
    ):
        (top / "a").write_text(text)
        await (await found(top)).commit([top / "a"], "m", author)
        assert git(top, "log", "-1", "--format=%an <%ae>") == shown


async def test_hooks_and_monitors_of_the_repository_do_not_run(top: Path) -> None:
    canary = top / "canary"
    script = top / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {canary}\n")
    script.chmod(0o755)
    for hook in ("pre-commit", "commit-msg", "post-commit", "prepare-commit-msg"):
        (top / ".git" / "hooks").mkdir(exist_ok=True)
        (top / ".git" / "hooks" / hook).symlink_to(script)
    git(top, "config", "core.fsmonitor", str(script))
    git(top, "config", "core.editor", str(script))
    (top / "a").write_text("1")
    assert await (await found(top)).commit([top / "a"], "m") is not None
    assert not canary.exists()


async def test_a_path_elsewhere_is_refused(top: Path, tmp_path: Path) -> None:
    with pytest.raises(GitFailed):
        await (await found(top)).commit([tmp_path / "x"], "m")


async def test_a_name_with_a_pattern_in_it_is_a_name(top: Path) -> None:
    (top / "*").write_text("star")
    (top / "other").write_text("o")
    await (await found(top)).commit([top / "*"], "m")
    assert git(top, "show", "--name-only", "--format=", "HEAD") == "*"


async def test_a_refusal_of_gits_is_ours(top: Path) -> None:
    (top / "a").write_text("1")
    (top / ".git" / "index.lock").write_text("")
    with pytest.raises(GitFailed, match=r"index\.lock"):
        await (await found(top)).commit([top / "a"], "m")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository to somebody else")
async def test_a_repository_of_another_owner_works(top: Path) -> None:
    subprocess.run(["chown", "-R", "12345", str(top)], check=True)
    (top / "a").write_text("1")
    assert await (await found(top)).commit([top / "a"], "m") is not None


async def test_the_first_commit_of_all_works(tmp_path: Path, top: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    repository = await found(empty)
    assert await repository.head() is None
    (empty / "a").write_text("1")
    assert await repository.commit([empty / "a"], "m") is not None


@pytest.mark.parametrize("made", [True, False])
async def test_a_commit_that_is_there_is_none_that_failed_whatever_git_says_of_its_index(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, made: bool
) -> None:
    real = shutil.which("git")
    wrapped = tmp_path / "bin/git"
    wrapped.parent.mkdir()
    first = f'"{real}" "$@"; ' if made else ""
    wrapped.write_text(
        f"#!/bin/sh\ncase \" $* \" in *' commit '*) {first}echo 'fatal: repository has been updated, but unable to "
        f'write new index file\' >&2; exit 128;; esac\nexec "{real}" "$@"\n'
    )
    wrapped.chmod(0o755)
    file = top / "tenants.d/acme.yaml"
    file.write_text("plan: pro\n")
    repository = await found(top)
    before = await repository.head()
    monkeypatch.setenv("PATH", f"{wrapped.parent}:{os.environ['PATH']}")
    if made:
        assert await repository.commit([file], "made") == await repository.head() != before
        assert git(top, "show", "HEAD:tenants.d/acme.yaml") == "plan: pro"
    else:
        with pytest.raises(GitFailed, match="unable to write"):
            await repository.commit([file], "not made")
        assert await repository.head() == before
    assert git(top, "diff", "--cached", "--name-only") == ""
