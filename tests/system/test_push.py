"""`git push` to the gateway, over a real sshd: what is taken, what is refused, and that nothing is lost."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway_process import GatewayProcess, carrel
from tests.fakes.repositories import Clone, keypair
from tests.fakes.sshd import SSHD, Sshd

pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="needs openssh-server")
ADMIN = f"ak_ops_{'5' * 32}"
GATEWAY = (
    "providers: {demo: {kind: demo}}\nmodels: {demo: {provider: demo, context_window: 32768, max_output: 4096}}\n"
    "default_model: demo\n"
    f"admin_keys: [{{name: ops, sha256: {hashlib.sha256(ADMIN.encode()).hexdigest()}}}]\n"
)
RATES = "models: {demo: {input: 1.00, output: 2.00}}\n"
PLANS = "plans: {starter: {}, pro: {}}\n"


class Appliance:
    """A gateway that is pushed to, its sshd, and a person with a key."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.gateway = GatewayProcess(home=home, git=home / "state" / "git" / "settings.yaml")
        self.state = self.gateway.state_dir
        self.key = keypair(home / "alice-key")
        self.settings = home / "settings.yaml"
        self.settings.write_text("push: {max_transfer_bytes: 4194304, max_file_bytes: 262144, wait_seconds: 60}\n")
        assert self.carrel("git", "init", "--settings", str(self.settings)).returncode == 0
        done = self.carrel("git", "authorize", f"{self.key}.pub", "--name", "alice")
        assert done.returncode == 0, done.stderr
        self.sshd = Sshd(home / "sshd", self.state / "git" / "authorized_keys").start()

    def carrel(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return carrel(*words, cwd=self.home, env={"CARREL_STATE_DIR": str(self.state)}, wait=120)

    def clone(self, path: Path) -> Clone:
        """A clone of what is on the branch now."""
        made = Clone(path, ssh=self.sshd.ssh(self.key))
        made.git("remote", "add", "carrel", self.sshd.url("tenants.git"))
        if self.tip() is not None:
            # What is there is read from the disk: a connection costs more than what most tests are about.
            reads = "--upload-pack=git -c safe.directory=* upload-pack"
            made.git("pull", "-q", reads, str(self.state / "git" / "tenants.git"), "main")
        return made

    def tip(self) -> str | None:
        """Where the branch is, by git's own file."""
        ref = self.state / "git" / "tenants.git" / "refs" / "heads" / "main"
        return ref.read_text().strip() if ref.exists() else None

    def status(self) -> Any:
        reply = self.gateway.request("GET", "/v1/status", token=ADMIN)
        assert reply.status == 200, reply
        return reply.json()

    def states(self) -> dict[str, str]:
        return {tenant["id"]: tenant["state"] for tenant in self.status()["tenants"]}

    def keys_told(self) -> list[tuple[str, str]]:
        """Whose keys came and went, as the audit log has it."""
        files = sorted((self.state / "audit").glob("????-??-??.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [(line["action"], line["target"]) for line in lines if line["actor"] == "edit"]

    def audited(self) -> list[tuple[str, str]]:
        """Who moved the branch where, as the audit log has it."""
        lines = self.gateway.request("GET", "/v1/audit?limit=1000", token=ADMIN).json()["lines"]
        return [(line["actor"], line["after"]) for line in lines if line["action"] == "git.push"]


def eventually(what: Callable[[], bool], wait: float = 60) -> None:
    deadline = time.monotonic() + wait
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def push(clone: Clone, what: str = "HEAD:main", *words: str) -> "subprocess.CompletedProcess[str]":
    return clone.run("push", *words, "carrel", what)


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    home = tmp_path_factory.mktemp("push") / "home"
    home.mkdir()
    made = Appliance(home)
    made.gateway.start(wait=60)
    first = made.clone(home / "first")
    first.commit({"_gateway.yaml": GATEWAY, "_rate-card.yaml": RATES, "_plans.yaml": PLANS, "acme.yaml": "plan: pro\n"})
    done = push(first)
    assert done.returncode == 0, done.stderr
    assert "acme: create" in done.stderr
    assert "acme: Ready" in done.stderr
    yield made
    made.sshd.stop()
    if made.gateway.process is not None and made.gateway.process.poll() is None:
        assert made.gateway.stop() == 0, made.gateway.text


@pytest.fixture
def clone(appliance: Appliance, tmp_path: Path) -> Clone:
    return appliance.clone(tmp_path / "clone")


def test_a_push_is_in_force_and_recorded_with_who_pushed(appliance: Appliance, clone: Clone) -> None:
    commit = clone.commit({"newco.yaml": "plan: starter\n"}, "New Co")
    done = push(clone)
    assert done.returncode == 0, done.stderr
    assert "newco: Ready" in done.stderr
    assert appliance.status()["git"]["revision"] == commit
    assert appliance.status()["git"]["by"] == "git:alice"
    current = appliance.state / "git" / "current"
    assert current.readlink().name == commit
    assert (current / "newco.yaml").read_text() == "plan: starter\n"
    assert ("git:alice", commit) in appliance.audited()


def test_a_broken_push_is_told_each_error_in_its_place_and_changes_nothing(appliance: Appliance, clone: Clone) -> None:
    before = appliance.tip()
    bomb = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    clone.commit({
        "twice.yaml": "plan: pro\nplan: pro\n", "planless.yaml": "plan: prp\n", "bomb.yaml": bomb,
        "latin.yaml": b"display_name: caf\xe9\n", "Bad.yaml": "plan: pro\n",
        "tag.yaml": "plan: !!python/name:os.system\n",
    })  # fmt: skip
    done = push(clone)
    assert done.returncode != 0
    for text in (
        "twice.yaml:2:1: plan: the key is there twice",
        "planless.yaml:1:7: plan: _plans.yaml has no such plan, found 'prp'; did you mean pro?",
        "bomb.yaml:", "aliases counted in full",
        "latin.yaml:1:1: the file is not UTF-8 text",
        "Bad.yaml:1:1: the file's name is no tenant id",
        "tag.yaml:1:", "tags (`!name`) are not taken",
        "nothing of this push is taken",
    ):  # fmt: skip
        assert text in done.stderr, (text, done.stderr)
    assert appliance.tip() == before


def test_a_tree_of_links_submodules_and_large_files_is_refused(appliance: Appliance, clone: Clone) -> None:
    before = appliance.tip()
    assert before is not None
    tree = clone.raw_tree([
        *clone.entries(), ("120000", b"link.yaml", clone.blob(b"/etc/passwd")), ("160000", b"module", before),
        ("100644", b"large.yaml", clone.blob(b"#" * 300_000)), ("100644", b"esc\x1b[2J.yaml", clone.blob(b"")),
        ("100644", b"\xff\xfe.yaml", clone.blob(b"")), ("100644", b".GitModules", clone.blob(b"")),
    ])  # fmt: skip
    done = push(clone, f"{clone.raw_commit(tree, before)}:main")
    assert done.returncode != 0
    for text in (
        "link.yaml:1:1: not a plain file but a symbolic link",
        "a submodule",
        "300000 bytes",
        "control characters",
        "the name is not UTF-8 text",
        "a name that no file may have here",
    ):
        assert text in done.stderr, done.stderr
    assert "\x1b[2J" not in done.stderr
    assert appliance.tip() == before


@pytest.mark.parametrize("name", [b"..", b".git"])
def test_names_that_lead_elsewhere_are_refused_by_the_objects_check(
    appliance: Appliance, clone: Clone, name: bytes
) -> None:
    before = appliance.tip()
    tree = clone.raw_tree([*clone.entries(), ("40000", name, clone.raw_tree([("100644", b"x", clone.blob(b"x"))]))])
    done = push(clone, f"{clone.raw_commit(tree, before)}:main")
    assert done.returncode != 0
    assert appliance.tip() == before


def test_a_push_over_the_size_limit_is_refused(appliance: Appliance, clone: Clone) -> None:
    before = appliance.tip()
    clone.commit({"noise.bin": os.urandom(6 << 20)})
    assert push(clone).returncode != 0
    assert appliance.tip() == before


def test_neither_force_nor_deletion_nor_another_ref(appliance: Appliance, clone: Clone) -> None:
    before = appliance.tip()
    root = clone.git("rev-list", "--max-parents=0", "HEAD")
    other = clone.git("commit-tree", f"{root}^{{tree}}", "-m", "another history")
    for what, told in (
        (f"+{other}:main", "would lose commits"), (":main", "declined"), ("HEAD:refs/tags/v1", "tags are not taken"),
    ):  # fmt: skip
        done = push(clone, what)
        assert done.returncode != 0
        assert told in done.stderr, (what, done.stderr)
    assert appliance.tip() == before
    assert sorted(p.name for p in (appliance.state / "git/tenants.git/refs/heads").iterdir()) == ["main"]


def test_the_account_gives_git_on_one_repository_and_nothing_else(appliance: Appliance, tmp_path: Path) -> None:
    for words in (
        (),
        ("id",),
        ("git-upload-pack", "/etc"),
        ("git-receive-pack 'tenants.git'; id",),
        ("sh", "-c", "id"),
    ):
        done = appliance.sshd.run(appliance.key, *words)
        assert done.returncode != 0
        assert "uid=" not in done.stdout, (words, done)
    stranger = keypair(tmp_path / "stranger")
    assert "Permission denied" in appliance.sshd.run(stranger, "git-upload-pack", "tenants.git").stderr


def test_a_key_that_is_revoked_no_longer_pushes(appliance: Appliance, tmp_path: Path) -> None:
    key = keypair(tmp_path / "bob-key")
    assert appliance.carrel("git", "authorize", f"{key}.pub", "--name", "bob").returncode == 0
    eventually(lambda: ("git.authorize", "bob") in appliance.keys_told())
    assert "bob" in appliance.carrel("git", "keys").stdout
    assert appliance.sshd.run(key, "git-upload-pack", "tenants.git").returncode in (0, 128)
    assert appliance.carrel("git", "revoke", "bob").returncode == 0
    eventually(lambda: ("git.revoke", "bob") in appliance.keys_told())
    assert "Permission denied" in appliance.sshd.run(key, "git-upload-pack", "tenants.git").stderr


def test_of_two_pushes_at_once_one_is_told_to_fetch(appliance: Appliance, tmp_path: Path) -> None:
    clones = [appliance.clone(tmp_path / name) for name in ("one", "two")]
    commits = [c.commit({f"race{i}.yaml": "plan: pro\n"}) for i, c in enumerate(clones)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(push, clones))
    won = [d.returncode == 0 for d in done]
    assert sorted(won) == [False, True], [d.stderr for d in done]
    assert appliance.tip() == commits[won.index(True)]
    loser = clones[won.index(False)]
    loser.git("pull", "-q", "--rebase", "carrel", "main")
    assert push(loser).returncode == 0
    assert {"race0", "race1"} <= set(appliance.states())


def test_a_change_by_command_is_a_commit_that_a_push_must_fetch_first(appliance: Appliance, clone: Clone) -> None:
    done = appliance.carrel("tenants", "create", "bycli", "--plan", "starter", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] == appliance.tip()
    clone.commit({"late.yaml": "plan: pro\n"})
    refused = push(clone)
    assert refused.returncode != 0
    assert "fetch" in refused.stderr
    clone.git("pull", "-q", "--rebase", "carrel", "main")
    assert "(uid:" in clone.git("log", "--format=%an %s", "--", "bycli.yaml")
    assert push(clone).returncode == 0
    assert {"bycli", "late"} <= set(appliance.states())


def test_history_diff_and_the_way_back(appliance: Appliance, clone: Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    clone.commit({"regret.yaml": "plan: pro\n"}, "a mistake")
    assert push(clone).returncode == 0
    assert "a mistake" in appliance.carrel("history", "regret").stdout
    assert "+plan: pro" in appliance.carrel("diff", before).stdout
    done = appliance.carrel("rollback", before)
    assert done.returncode == 0
    assert "regret.yaml" in done.stdout, done.stderr
    assert appliance.states()["regret"] == "Removed"
    clone.git("pull", "-q", "carrel", "main")
    assert clone.git("log", "-1", "--format=%s") == f"Roll back to {before[:12]}"
    assert "a mistake" in clone.git("log", "--format=%s")


def test_a_hook_that_is_killed_and_a_gateway_that_is_down_lose_nothing(appliance: Appliance, clone: Clone) -> None:
    """The hook that tells the gateway dies at once; then the gateway is gone while somebody pushes."""
    hook = appliance.state / "git" / "hooks" / "post-receive"
    kept = hook.read_text()
    hook.write_text("#!/bin/sh\nkill -9 $$\n")
    try:
        killed = clone.commit({"killed.yaml": "plan: pro\n"})
        push(clone)
    finally:
        hook.write_text(kept)
    assert appliance.tip() == killed
    eventually(lambda: appliance.status()["git"]["revision"] == killed)
    assert appliance.states()["killed"] == "Ready"
    appliance.gateway.stop(sig=signal.SIGKILL)
    down = clone.commit({"down.yaml": "plan: pro\n"})
    done = push(clone)
    assert done.returncode == 0
    assert "The gateway is not running" in done.stderr, done.stderr
    # As after a power cut in the middle of an export: half a directory, and a link to nothing.
    shutil.rmtree(appliance.state / "git" / "revisions" / killed)
    appliance.gateway.start(wait=60)
    assert appliance.status()["git"]["revision"] == down
    assert {"killed", "down", "acme"} <= set(appliance.states())
    assert ("git:alice", down) in appliance.audited()


def test_a_judge_that_is_killed_refuses_the_push(appliance: Appliance, clone: Clone) -> None:
    before = appliance.tip()
    hook = appliance.state / "git" / "hooks" / "pre-receive"
    kept = hook.read_text()
    hook.write_text("#!/bin/sh\nkill -9 $$\n")
    try:
        clone.commit({"unjudged.yaml": "plan: pro\n"})
        assert push(clone).returncode != 0
    finally:
        hook.write_text(kept)
    assert appliance.tip() == before
    assert push(clone).returncode == 0
