"""Fetching and signatures, with the real git, ssh-keygen and sshd."""

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.secrets import SecretMissing, SecretStore
from carrel.vcs.bare import Bare
from carrel.vcs.remote import FETCHED, Remote, Unreachable
from carrel.vcs.settings import PullSettings
from tests.fakes.repositories import Clone, keypair
from tests.fakes.sshd import SSHD, Sshd

SECRETS = SecretStore(credentials_dir=None, secrets_dir=None, environ={})


class Upstream:
    """A clone that is pulled from, two people who sign, and one whose signature counts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.clone = Clone(place / "upstream")
        self.key, self.stranger = keypair(place / "key"), keypair(place / "stranger")
        self.signers = place / "signers"
        self.signers.write_text(f'alice@example.org namespaces="git" {self.key.with_suffix(".pub").read_text()}')
        self.bare = Bare(place / "git" / "tenants.git")

    def remote(self, **settings: object) -> Remote:
        told = {"url": f"file://{self.clone.path}", "allowed_signers": str(self.signers), **settings}
        return Remote(self.bare, PullSettings.model_validate(told), SECRETS, self.place / "git")


@pytest.fixture
async def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path)
    await made.bare.init(receives=1 << 20)
    return made


async def test_a_signed_commit_is_good_and_each_other_kind_is_told(upstream: Upstream) -> None:
    remote = upstream.remote()
    first = upstream.clone.commit({"a": "1"}, "signed", key=upstream.key)
    assert await remote.fetch() == first
    assert await remote.unsigned(None, first) == ()
    upstream.clone.commit({"a": "2"}, "by nobody")
    upstream.clone.commit({"a": "3"}, "by a stranger", key=upstream.stranger)
    good = upstream.clone.commit({"a": "4"}, "signed again", key=upstream.key)
    assert await remote.fetch() == good
    stranger, nobody = await remote.unsigned(first, good)
    assert "'by nobody' by 'alice') is not signed" in nobody
    assert "'by a stranger'" in stranger
    assert "not among the allowed signers" in stranger
    assert await remote.unsigned(f"{good}~1", good) == ()


async def test_what_a_merge_brings_in_is_looked_at_too(upstream: Upstream) -> None:
    clone = upstream.clone
    first = clone.commit({"a": "1"}, "signed", key=upstream.key)
    clone.git("checkout", "-q", "-b", "side")
    clone.commit({"b": "1"}, "unsigned, on the side")
    clone.git("checkout", "-q", "main")
    clone.commit({"a": "2"}, "signed", key=upstream.key)
    clone.git(
        "merge", "-q", "--no-ff", "-S", "-m", "merge", "side",
        settings=("gpg.format=ssh", f"user.signingKey={upstream.key}"),
    )  # fmt: skip
    new = await upstream.remote().fetch()
    (told,) = await upstream.remote().unsigned(first, new)
    assert "unsigned, on the side" in told


async def test_a_signature_over_another_commit_is_bad(upstream: Upstream) -> None:
    clone = upstream.clone
    clone.commit({"a": "1"}, "signed", key=upstream.key)
    raw = clone.git("cat-file", "commit", "HEAD").replace("\n\nsigned", "\n\nforged")
    forged = clone.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode() + b"\n")
    clone.git("update-ref", "refs/heads/main", forged)
    assert await upstream.remote().fetch() == forged
    (told,) = await upstream.remote().unsigned(None, forged)
    assert "bad signature" in told


async def test_a_signer_whose_time_is_over_counts_no_more(upstream: Upstream) -> None:
    text = upstream.signers.read_text()
    commit = upstream.clone.commit({"a": "1"}, "signed", key=upstream.key)
    await upstream.remote().fetch()
    upstream.signers.write_text(text.replace("namespaces", 'valid-before="20200101",namespaces'))
    assert len(await upstream.remote().unsigned(None, commit)) == 1
    upstream.signers.write_text("")
    assert len(await upstream.remote().unsigned(None, commit)) == 1


async def test_the_repository_cannot_say_whose_signatures_count(upstream: Upstream) -> None:
    commit = upstream.clone.commit({".gitconfig": "[gpg]\n\tformat = openpgp\n"}, "x", key=upstream.stranger)
    await upstream.remote().fetch()
    config = upstream.bare.path / "config"
    config.write_text(config.read_text() + '[gpg "ssh"]\n\tallowedSignersFile = /dev/stdin\n')
    assert len(await upstream.remote().unsigned(None, commit)) == 1


async def test_tags_and_other_branches_do_not_come_along(upstream: Upstream) -> None:
    upstream.clone.commit({"a": "1"})
    upstream.clone.git("tag", "v1")
    upstream.clone.git("branch", "other")
    await upstream.remote().fetch()
    refs = {p.name for p in (upstream.bare.path / "refs").rglob("*") if p.is_file()}
    assert refs == {Path(FETCHED).name}


async def test_too_large_a_fetch_is_stopped(upstream: Upstream) -> None:
    upstream.clone.commit({"noise": os.urandom(1 << 20)})
    with pytest.raises(Unreachable):
        await upstream.remote(max_transfer_bytes=65_536).fetch()
    assert await upstream.remote().fetch()


async def test_what_is_not_there_says_so(upstream: Upstream) -> None:
    with pytest.raises(Unreachable, match="cannot be fetched"):
        await upstream.remote(url="file:///nonexistent").fetch()
    upstream.clone.commit({"a": "1"})
    with pytest.raises(Unreachable, match="cannot be fetched"):
        await upstream.remote(branch="nope").fetch()
    with pytest.raises(SecretMissing):
        await upstream.remote(url="https://127.0.0.1:1/t.git", token={"secret": "none"}).fetch()


@pytest.fixture
def sshd(tmp_path: Path, upstream: Upstream) -> Iterator[Sshd]:
    keys = tmp_path / "authorized_keys"
    command = f"git-upload-pack {shlex.quote(str(upstream.clone.path))}"
    keys.write_text(f'restrict,command="{command}" {keypair(tmp_path / "login").with_suffix(".pub").read_text()}')
    running = Sshd(tmp_path / "sshd", keys).start()
    yield running
    running.stop()


@pytest.mark.skipif(not Path(SSHD).exists(), reason="needs openssh-server")
async def test_over_ssh_with_a_key_from_the_secrets(tmp_path: Path, upstream: Upstream, sshd: Sshd) -> None:
    commit = upstream.clone.commit({"a": "1"}, key=upstream.key)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "git-key").write_text((tmp_path / "login").read_text())
    secrets = SecretStore(credentials_dir=None, secrets_dir=tmp_path / "secrets", environ={})

    def remote(known_hosts: Path) -> Remote:
        settings = PullSettings.model_validate({
            "url": sshd.url("x"), "known_hosts": str(known_hosts), "ssh_key": {"secret": "git-key"},
            "allowed_signers": str(upstream.signers),
        })  # fmt: skip
        return Remote(upstream.bare, settings, secrets, tmp_path / "git")

    assert await remote(tmp_path / "sshd" / "known_hosts").fetch() == commit
    assert not list((tmp_path / "git").glob(".key-*"))
    (tmp_path / "other_hosts").write_text("")
    with pytest.raises(Unreachable, match="Host key verification failed"):
        await remote(tmp_path / "other_hosts").fetch()
    (tmp_path / "secrets" / "git-key").write_text((tmp_path / "stranger").read_text())
    with pytest.raises(Unreachable, match="Permission denied"):
        await remote(tmp_path / "sshd" / "known_hosts").fetch()
    assert stat.S_IMODE((tmp_path / "git").stat().st_mode) & 0o077 in (0, 0o055)


async def test_a_uid_without_a_name_is_told_what_it_needs(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    first = upstream.clone.commit({"a": "1"}, "signed", key=upstream.key)
    assert await upstream.remote().fetch() == first

    def nobody(uid: int) -> object:
        raise KeyError(uid)

    monkeypatch.setattr("carrel.vcs.remote.pwd.getpwuid", nobody)
    with pytest.raises(CarrelError, match="add a system user `carrel`"):
        await upstream.remote().unsigned(None, first)
    with pytest.raises(CarrelError, match="add a system user `carrel`"):
        await upstream.remote(url="ssh://git@127.0.0.1/x.git", known_hosts="/dev/null").fetch()
