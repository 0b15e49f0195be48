from pathlib import Path

import pytest

from carrel.errors import TooLarge
from carrel.processes import Completed
from carrel.vcs import program
from tests.fakes.repositories import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    made.commit({"a.txt": "a\n", "b.txt": "b\n"})
    return made


async def test_an_answer_is_given_and_a_failure_says_why(clone: Clone) -> None:
    head = clone.git("rev-parse", "HEAD")
    assert (await program.output(clone.path / ".git", "rev-parse", "HEAD")).decode().strip() == head
    with pytest.raises(program.GitFailed, match="git cat-file failed"):
        await program.output(clone.path / ".git", "cat-file", "-t", "f" * 40)


@pytest.mark.parametrize(
    ("told", "code"),
    [
        ("fatal: sha1 file '.git/objects/a' write error. Out of diskspace: No space left on device", "storage_full"),
        ("error: unable to create temporary file: Too many open files", "unavailable"),
        ("fatal: unable to write new index file: Input/output error", "storage_failed"),
        ("fatal: not a git repository", "git_failed"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_git(told: str, code: str) -> None:
    assert program.failure("commit", Completed(128, b"", told.encode())).code == code


async def test_a_long_answer_is_cut_short_by_a_refusal(clone: Clone) -> None:
    words = ("ls-tree", "-r", "-z", "-l", "HEAD")
    whole = await program.capped(clone.path / ".git", *words, limit=10_000)
    assert whole.count(b"\0") == 2
    with pytest.raises(TooLarge):
        await program.capped(clone.path / ".git", *words, limit=20)
    with pytest.raises(program.GitFailed):
        await program.capped(clone.path / ".git", "ls-tree", "no-such-thing", limit=20)


async def test_nothing_of_the_repository_or_the_environment_is_run(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    program_file = tmp_path / "evil"
    program_file.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program_file.chmod(0o755)
    hooks = clone.path / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "reference-transaction").write_text(program_file.read_text())
    (hooks / "reference-transaction").chmod(0o755)
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(program_file))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program_file))
    await program.output(clone.path / ".git", "update-ref", "refs/heads/other", clone.git("rev-parse", "HEAD"))
    assert not trace.exists()
    assert "GIT_SSH_COMMAND" not in program.environment()


def test_what_serves_a_push_names_who_pushes() -> None:
    argv, env = program.serving(Path("/s/git/tenants.git"), Path("/s/git/hooks"), "receive-pack", "alice")
    assert argv[-2:] == ["receive-pack", "/s/git/tenants.git"]
    assert "receive.fsckObjects=true" in argv
    assert env["GIT_COMMITTER_NAME"] == "git:alice"
