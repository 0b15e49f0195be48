"""Number 9.2, for what comes by git: objects are read, and nothing of a repository is run, followed or fetched."""

from pathlib import Path

import pytest

from carrel.declare.problems import DeclarationInvalid
from carrel.secrets import SecretStore
from carrel.vcs.bare import Bare
from carrel.vcs.judge import judge_commit
from carrel.vcs.remote import Remote, Unreachable
from carrel.vcs.revisions import Revisions
from carrel.vcs.settings import Hosted, PullSettings, load_settings
from tests.fakes.declarations import declare
from tests.fakes.repositories import Clone

SECRETS = SecretStore(credentials_dir=None, secrets_dir=None, environ={})


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    declare(made.path, acme="plan: pro\n")
    made.commit({})
    return made


@pytest.mark.parametrize(
    ("mode", "name"),
    [("120000", b"evil.yaml"), ("160000", b"module"), ("100644", b".gitmodules"), ("100644", b"a\\b.yaml")],
)
async def test_S9_02_links_submodules_and_odd_names_are_in_no_tree(clone: Clone, mode: str, name: bytes) -> None:
    sha = clone.git("rev-parse", "HEAD") if mode == "160000" else clone.blob(b"/etc/passwd")
    commit = clone.raw_commit(clone.raw_tree([*clone.entries(), (mode, name, sha)]))
    found = await judge_commit(Bare(clone.path / ".git"), commit, Hosted())
    assert len(found.errors) == 1
    assert found.files == {}


async def test_S9_02_twin_plain_files_are(clone: Clone) -> None:
    commit = clone.raw_commit(clone.raw_tree([*clone.entries(), ("100644", b"more.yaml", clone.blob(b"plan: pro\n"))]))
    found = await judge_commit(Bare(clone.path / ".git"), commit, Hosted())
    assert found.errors == ()
    assert found.files["more.yaml"] == b"plan: pro\n"


async def test_S9_02_nothing_of_a_repository_is_run(clone: Clone, tmp_path: Path) -> None:
    """Attributes, filters and hooks that would act on a checkout see none: blobs come out as they went in."""
    trace = tmp_path / "ran"
    clone.commit({".gitattributes": "*.yaml filter=evil diff=evil text eol=crlf export-subst ident\n"})
    program = f"sh -c 'touch {trace}; cat'"
    for key in ("filter.evil.smudge", "filter.evil.clean", "filter.evil.process", "diff.evil.textconv"):
        clone.git("config", key, program)
    for hook in ("post-checkout", "reference-transaction", "pre-receive"):
        (clone.path / ".git" / "hooks").mkdir(exist_ok=True)
        (clone.path / ".git" / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (clone.path / ".git" / "hooks" / hook).chmod(0o755)
    repository = Bare(clone.path / ".git")
    found = await judge_commit(repository, clone.git("rev-parse", "HEAD"), Hosted())
    exported = Revisions(tmp_path / "out").export("x", found.files)
    assert (exported.path / "acme.yaml").read_bytes() == b"plan: pro\n"
    await repository.log("HEAD", limit=1)
    assert not trace.exists()


@pytest.mark.parametrize(
    "url", ["ext::sh -c id", "git://h/x", "http://h/x", "/srv/x", "fd::17", "--upload-pack=id", "-oProxyCommand=id@h:x"]
)
def test_S9_02_only_named_transports_are_settings(tmp_path: Path, url: str) -> None:
    (tmp_path / "git.yaml").write_text(f"pull: {{url: '{url}', unsigned: true, known_hosts: /k}}\n")
    with pytest.raises(DeclarationInvalid, match="url"):
        load_settings(tmp_path / "git.yaml")


async def test_S9_02_no_other_transport_is_reached_from_the_one_that_is_named(clone: Clone, tmp_path: Path) -> None:
    """The repository's own configuration cannot turn an address into another one's transport."""
    trace = tmp_path / "ran"
    bare = Bare(tmp_path / "git" / "tenants.git")
    await bare.init(receives=1 << 20)
    config = bare.path / "config"
    plain = config.read_text()
    config.write_text(plain + f'[url "ext::touch {trace} "]\n\tinsteadOf = file:///\n')
    remote = Remote(bare, PullSettings(url=f"file://{clone.path}", unsigned=True), SECRETS, tmp_path)
    with pytest.raises(Unreachable):
        await remote.fetch()
    assert not trace.exists()
    config.write_text(plain)
    assert await remote.fetch() == clone.git("rev-parse", "HEAD")


@pytest.mark.parametrize("key", ["binds", "mounts", "seccomp", "filters", "proxy", "no_proxy", "bwrap"])
async def test_S9_02_a_push_cannot_set_what_confines_it(clone: Clone, key: str) -> None:
    commit = clone.commit({"acme.yaml": f"sandbox: {{{key}: [/etc]}}\n"})
    found = await judge_commit(Bare(clone.path / ".git"), commit, Hosted())
    assert [str(p).split(":")[0] for p in found.errors] == ["acme.yaml"]
