import json
import sys
from pathlib import Path

import pytest

from carrel.cli.app import build_app, execute
from tests.fakes.gitops import FakeGit
from tests.fakes.repositories import keypair
from tests.unit.cli.conftest import CommandLine, Serve


def test_a_repository_is_made_and_keys_are_let_in_and_taken_away(carrel: CommandLine, tmp_path: Path) -> None:
    assert carrel.run("git", "keys").code == 1
    done = carrel.run("git", "init", "--json")
    assert done.json()["mode"] == "push"
    assert Path(done.json()["repository"], "HEAD").is_file()
    assert "carrel gateway --state-dir" in carrel.run("git", "init").out
    key = keypair(tmp_path / "key")
    done = carrel.run("git", "authorize", f"{key}.pub", "--name", "alice")
    assert done.out.startswith("alice may push: ssh-ed25519 SHA256:")
    assert carrel.run("git", "authorize", str(key), "--name", "bob").code == 1
    assert carrel.run("git", "authorize", f"{key}.pub", "--name", "bob", "--json").code == 1
    assert [k["name"] for k in carrel.run("git", "keys", "--json").json()["keys"]] == ["alice"]
    assert "ssh-ed25519" in carrel.run("git", "keys").out
    assert carrel.run("git", "revoke", "alice").out == "alice may no longer push with 1 key.\n"
    assert carrel.run("git", "revoke", "alice", "--json").code == 1


def test_wrong_settings_are_told_in_their_place(carrel: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "git.yaml").write_text("push: {}\npull: {}\n")
    done = carrel.run("git", "init", "--settings", str(tmp_path / "git.yaml"))
    assert done.code == 1
    assert "git.yaml:2:" in done.err


def test_it_works_as_the_uid_whose_state_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    became: list[tuple[Path, ...]] = []
    app = build_app(lambda _: 0, lambda *paths: became.append(paths), lambda: "/opt/carrel")
    (tmp_path / "git.yaml").write_text("push: {}\n")
    words = ["git", "init", "--settings", str(tmp_path / "git.yaml"), "--state-dir", str(tmp_path / "s"), "--json"]
    assert execute(app, words) == 0
    assert became == [(tmp_path / "s", tmp_path / "git.yaml")]
    assert json.loads(capsys.readouterr().out)["branch"] == "main"
    assert "/opt/carrel git hook" in (tmp_path / "s" / "git" / "hooks" / "pre-receive").read_text()
    assert sys.argv


async def test_a_look_at_the_remote(carrel: CommandLine, serve: Serve) -> None:
    async with serve(git=FakeGit()):
        done = await carrel("git", "pull")
        assert (done.code, done.out) == (1, "Diverged: told why\n")
        assert (await carrel("git", "pull", "--accept", "a" * 40, "--json")).json()["state"] == "Ready"
        assert (await carrel("git", "pull", "--accept", "abc")).code == 2
