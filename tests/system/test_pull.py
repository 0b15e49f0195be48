"""A gateway that pulls a signed branch: what it takes by itself, when nudged, and what nobody makes it take."""

import hashlib
import hmac
import json
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import PATIENCE
from tests.fakes.repositories import Clone, keypair

ADMIN = f"ak_ops_{'5' * 32}"
WEBHOOK = "example-secret-of-the-forge"
FIRST = {
    "_gateway.yaml": "providers: {demo: {kind: demo}}\n"
    "models: {demo: {provider: demo, context_window: 32768, max_output: 4096}}\ndefault_model: demo\n"
    f"admin_keys: [{{name: ops, sha256: {hashlib.sha256(ADMIN.encode()).hexdigest()}}}]\n",
    "_rate-card.yaml": "models: {demo: {input: 1.00, output: 2.00}}\n",
    "acme.yaml": "display_name: Acme\n",
}


class Following:
    """A branch of ``alice``'s elsewhere, and a gateway that follows it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.chmod(0o755)
        self.alice, self.stranger = keypair(home / "alice"), keypair(home / "stranger")
        self.upstream = Clone(home / "upstream")
        signers = home / "allowed_signers"
        signers.write_text(f'alice@example.org namespaces="git" {self.alice.with_suffix(".pub").read_text()}')
        self.settings = home / "git.json"
        self.gateway = GatewayProcess(home=home, git=self.settings, env={"CARREL_SECRET_FORGE": WEBHOOK})
        if os.getuid() == 0:
            # The gateway becomes whose state it is, and ssh-keygen serves nobody without a name.
            self.gateway.state_dir.mkdir()
            user = pwd.getpwnam("daemon")
            os.chown(self.gateway.state_dir, user.pw_uid, user.pw_gid)
        self.look_every(3600)

    def look_every(self, seconds: float) -> None:
        """By the next start."""
        pull = {"url": f"file://{self.upstream.path}", "allowed_signers": str(self.home / "allowed_signers"),
                "interval_seconds": seconds, "webhook": {"secret": "FORGE"}}  # fmt: skip
        self.settings.write_text(json.dumps({"pull": pull}))

    def commit(self, key: Path | None, **files: str) -> str:
        """A commit of the tenants ``files``, signed by ``key``."""
        return self.upstream.commit({f"{name}.yaml": text for name, text in files.items()}, key=key)

    def nudge(self, body: bytes = b'{"ref": "refs/heads/main"}', *, secret: str = WEBHOOK) -> int:
        """What a forge's webhook gets."""
        signature = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
        headers = {"X-Hub-Signature-256": signature}
        return self.gateway.request("POST", "/v1/git/nudge", body, headers=headers).status

    def git(self) -> Any:
        """What `carrel status` says of git."""
        return self.gateway.request("GET", "/v1/status?brief=true", token=ADMIN).json()["git"]

    def tenants(self) -> set[str]:
        return {one["id"] for one in self.gateway.request("GET", "/v1/tenants", token=ADMIN).json()["tenants"]}

    def nudged_to(self, state: str, revision: str, says: str = "") -> Any:
        """What it says once a nudge has led it to ``state`` with ``revision`` in force, for a reason with ``says``."""
        assert self.nudge() == 202

        def there() -> Any:
            told = self.git()
            return told if (told["pull"], told["revision"]) == (state, revision) and says in told["message"] else None

        return until(there)


def until(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Following]:
    home = tmp_path_factory.mktemp("pull") / "home"
    home.mkdir()
    made = Following(home)
    made.upstream.commit(FIRST, key=made.alice)
    made.gateway.start()
    yield made
    if made.gateway.process is not None and made.gateway.process.poll() is None:
        assert made.gateway.stop() == 0, made.gateway.text


def test_the_first_start_has_all_and_a_nudge_brings_what_is_new(following: Following) -> None:
    assert following.tenants() == {"acme"}, following.git()
    new = following.commit(following.alice, newco="display_name: New Co\n")
    assert following.nudge(secret="another") == 401
    assert following.gateway.request("POST", "/v1/git/nudge", b"{}").status == 401
    following.nudged_to("Ready", new)
    assert following.tenants() == {"acme", "newco"}
    mark = json.loads((following.gateway.state_dir / "git" / "mark.json").read_text())
    assert mark == {"commit": new}, "kept beside the repository"


def test_each_new_commit_must_be_signed_by_somebody_who_may(following: Following) -> None:
    before = following.git()["revision"]
    unsigned = following.commit(None, sneaked="display_name: S\n")
    following.commit(following.alice, acme="display_name: Acme Inc\n")
    following.nudged_to("Unsigned", before, f"{unsigned[:12]} ('a change' by 'alice') is not signed")
    assert following.tenants() == {"acme", "newco"}
    following.upstream.git("reset", "-q", "--hard", before)
    following.commit(following.stranger, sneaked="display_name: S\n")
    following.nudged_to("Unsigned", before, "not among the allowed signers")
    following.upstream.git("reset", "-q", "--hard", before)
    following.nudged_to("Ready", before, "is the newest")
    assert following.tenants() == {"acme", "newco"}


def test_neither_an_older_state_nor_another_history_is_taken_also_by_a_new_repository(following: Following) -> None:
    before = following.git()["revision"]
    following.upstream.git("reset", "-q", "--hard", "HEAD~1")
    following.nudged_to("Older", before, "is older than")
    other = following.commit(following.alice, other="display_name: O\n")
    following.nudged_to("Diverged", before)
    # What was fetched so far is lost, and with it all that a repository could know of what was taken.
    assert following.gateway.stop() == 0
    shutil.rmtree(following.gateway.state_dir / "git" / "tenants.git")
    following.look_every(0.5)
    following.gateway.start()
    told = until(lambda: (told := following.git())["pull"] == "Diverged" and told)
    assert following.tenants() == {"acme", "newco"}, "what was in force is"
    assert f"carrel git pull --accept {other}" in told["message"]
    assert following.gateway.cli("git", "pull").returncode == 1
    done = following.gateway.cli("git", "pull", "--accept", other)
    assert done.returncode == 0, done.stderr
    # Without a nudge, by looking every so often.
    newest = following.commit(following.alice, acme="display_name: Acme again\n")
    until(lambda: following.git()["revision"] == newest)
    assert "other" in following.tenants()


def test_what_was_in_force_stays_while_the_remote_is_away_and_is_tried_again(following: Following) -> None:
    before = following.git()["revision"]
    repository = following.upstream.path / ".git"
    away = repository.rename(repository.with_name("away"))
    told = until(lambda: (told := following.git())["pull"] == "Unreachable" and told)
    assert told["revision"] == before
    assert following.gateway.request("GET", "/readyz").status == 200
    away.rename(repository)
    back = following.commit(following.alice, back="display_name: Back\n")
    until(lambda: following.git()["revision"] == back)
    lines = following.gateway.request("GET", "/v1/audit?limit=1000", token=ADMIN).json()["lines"]
    moves = [line["after"] for line in lines if line["action"] == "git.pull"]
    assert moves[-1] == back
