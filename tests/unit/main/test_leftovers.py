"""Temporary files and locks of a gateway that was killed, beside those that are in use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.main import leftovers
from carrel.main.leftovers import clear_before, clear_tenants
from tests.fakes.patience import until

DEAD = 1 << 22
"""No process has this number: it is past the most that the kernel gives."""
HALF = ".carrel-0123456789abcdef.tmp"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    for name in ("run", "audit", "git", "tenants/acme/credentials/vault", "tenants/acme/sandbox/sessions"):
        (state / name).mkdir(parents=True)
    return state


def repository(path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    (path / "acme.yaml").write_text("plan: pro\n")
    return path


def touch(*paths: Path) -> list[str]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return sorted(map(str, paths))


def test_what_is_half_written_in_the_state_goes(state: Path) -> None:
    left = touch(
        state / "audit/head.json.tmp", state / "audit-mark.json.tmp", state / ".status.json.tmp",
        state / ".master.marks.0011aa", state / f"git/.settings.yaml.{DEAD}.tmp",
    )  # fmt: skip
    stays = touch(state / "audit/head.json", state / "master.key", state / "run/lock", state / "audit/2026-01-01.jsonl")
    assert sorted(clear_before(state, None)) == left
    assert all(Path(path).exists() for path in stays)


def test_half_written_declarations_go_and_those_of_a_process_that_writes_stay(state: Path, tmp_path: Path) -> None:
    top = repository(tmp_path / "tenants.d")
    with subprocess.Popen([sys.executable, "-c", "input()  # as carrel does"], stdin=subprocess.PIPE) as writing:
        assert until(lambda: b"carrel" in Path(f"/proc/{writing.pid}/cmdline").read_bytes())
        left = touch(top / f".acme.yaml.{DEAD}.tmp", top / f".berg.yaml.{os.getpid()}.tmp")
        stays = touch(top / f".acme.yaml.{writing.pid}.tmp", top / ".acme.yaml.swp")
        assert sorted(clear_before(state, top)) == left
        assert all(Path(path).exists() for path in stays)
        writing.communicate(b"\n")


def test_a_dead_gits_locks_go_and_commits_can_be_made_again(state: Path, tmp_path: Path) -> None:
    top = repository(tmp_path / "tenants.d")
    add = ["git", "-C", str(top), "add", "acme.yaml"]
    left = touch(top / ".git/index.lock", top / ".git/refs/heads/main.lock", top / ".git/objects/0a/tmp_obj_Xy")
    assert subprocess.run(add, capture_output=True, check=False).returncode != 0
    assert sorted(clear_before(state, top)) == left
    subprocess.run(add, check=True)


def test_the_locks_of_a_git_that_works_stay(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_GIT_SECONDS", 0.1)
    top = repository(tmp_path / "tenants.d")
    lock = top / ".git/index.lock"
    with subprocess.Popen(["git", "-C", str(top), "cat-file", "--batch"], stdin=subprocess.PIPE) as working:
        assert until(lambda: Path(f"/proc/{working.pid}/cwd").readlink() == top)
        touch(lock)
        assert clear_before(state, top) == []
        assert lock.exists()
        working.communicate(b"")
    assert clear_before(state, top) == [str(lock)]


def test_of_tenants_only_what_is_older_than_the_gateway_goes(state: Path) -> None:
    acme = state / "tenants/acme"
    touch(acme / "snapshots/.making-1/data/file")
    left = sorted([
        *touch(acme / HALF, acme / "credentials/vault" / HALF, acme / "sandbox" / HALF,
               acme / "sandbox.d/member-ann" / HALF),
        str(acme / "snapshots/.making-1"),
    ])  # fmt: skip
    stays = touch(
        acme / "sandbox/sessions" / HALF, acme / "sandbox/.carrel-notes.tmp", acme / "credentials/tokens.json"
    )
    (state / "run/lock").write_text("1\n")
    new = acme / "credentials" / HALF
    while not new.exists() or new.stat().st_ctime_ns == (state / "run/lock").stat().st_ctime_ns:
        new.unlink(missing_ok=True)
        new.touch()
    assert sorted(clear_tenants(state)) == left
    assert new.exists()
    assert all(Path(path).exists() for path in stays)
