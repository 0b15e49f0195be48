from pathlib import Path

import pytest

from carrel.declare.problems import DeclarationInvalid
from carrel.errors import CarrelError
from carrel.vcs.settings import load_settings

PULL = "url: ssh://git@example.org/t.git, known_hosts: /k, allowed_signers: /s"


def loaded(tmp_path: Path, text: str) -> object:
    (tmp_path / "git.yaml").write_text(text)
    return load_settings(tmp_path / "git.yaml")


def test_push_and_pull_with_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "git.yaml").write_text("push: {}\n")
    push = load_settings(tmp_path / "git.yaml")
    assert (push.mode, push.hosted.branch, push.hosted.below) == ("push", "main", "")
    (tmp_path / "git.yaml").write_text(f"pull: {{{PULL}, branch: release/1.2, directory: a/tenants.d/}}\n")
    pull = load_settings(tmp_path / "git.yaml")
    assert (pull.mode, pull.hosted.branch, pull.hosted.below) == ("pull", "release/1.2", "a/tenants.d")
    assert pull.hosted.limits.files == 20_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "one of the two"),
        (f"push: {{}}\npull: {{{PULL}}}", "one of the two"),
        ("pull: {url: 'https://example.org/t.git'}", "unsigned: true"),
        ("pull: {url: 'ssh://h/t.git', unsigned: true}", "known_hosts"),
        ("pull: {url: 'https://me:pw@h/t.git', unsigned: true}", "token"),
        ("pull: {url: 'ext::sh -c id', unsigned: true}", "url"),
        ("pull: {url: '--upload-pack=id', unsigned: true}", "url"),
        ("pull: {url: '-oProxyCommand=id@h:x', unsigned: true}", "url"),
        ("push: {branch: '../x'}", "branch"),
        ("push: {branch: '-x'}", "branch"),
        ("push: {directory: '../x'}", "directory"),
        ("push: {brnch: main}", "brnch"),
        ("push: {}\npush: {}", "twice"),
        ("push: {wait_seconds: no}", "wait_seconds"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DeclarationInvalid, match=told) as raised:
        loaded(tmp_path, text)
    assert "git.yaml:" in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CarrelError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")
