import json
from pathlib import Path

import pytest

from carrel.declare.problems import DeclarationInvalid
from carrel.errors import NotFound
from carrel.vcs.home import GitHome
from carrel.vcs.keys import parse_key
from tests.fakes.repositories import keypair


async def test_everything_is_made_and_made_again(tmp_path: Path) -> None:
    home = GitHome(tmp_path / "state", "/opt/carrel")
    with pytest.raises(NotFound, match="carrel git init"):
        home.settings()
    made = await home.make()
    assert made.mode == "push"
    for name in ("pre-receive", "post-receive"):
        hook = home.path / "hooks" / name
        assert hook.stat().st_mode & 0o777 == 0o700
        assert f"/opt/carrel git hook {name} --state-dir {tmp_path / 'state'}" in hook.read_text()
    assert json.loads((home.path / "wait.json").read_text()) == {"seconds": 30.0}
    assert home.path.stat().st_mode & 0o777 == 0o700
    home.keys().authorize(parse_key(keypair(tmp_path / "k").with_suffix(".pub").read_text(), "alice"))
    moved = GitHome(tmp_path / "state", "/elsewhere/carrel")
    assert await moved.make() == made
    assert "/elsewhere/carrel git serve alice" in (home.path / "authorized_keys").read_text()
    assert "/elsewhere/carrel" in (home.path / "hooks" / "pre-receive").read_text()


async def test_settings_come_from_a_file_and_wrong_ones_change_nothing(tmp_path: Path) -> None:
    home = GitHome(tmp_path / "state", "/opt/carrel")
    given = tmp_path / "git.yaml"
    given.write_text("push: {branch: live, max_transfer_bytes: 4096}\n")
    assert (await home.make(given)).hosted.branch == "live"
    assert (home.repository / "HEAD").read_text().strip() == "ref: refs/heads/live"
    assert home.bare(home.settings()).ref == "refs/heads/live"
    given.write_text("push: {branch: }\nnope: 1\n")
    with pytest.raises(DeclarationInvalid):
        await home.make(given)
    assert home.settings().hosted.branch == "live"
    assert (await home.make(home.settings_file)).hosted.branch == "live"
