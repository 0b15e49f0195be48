"""Whose /workspace it is, and that nothing of a hostile one is left."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from carrel.agents.workspace import beneath, member_workspace, remove_workspace, session_workspace, shown, workspace_of
from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import InvalidRequest, UnsafePath
from carrel.ids import SessionId
from carrel.tenancy.handle import Tenant
from tests.fakes.tenants import make_tenant

S1 = SessionId("s1")
Scope = Literal["tenant", "member", "session"]


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    yield made
    made.root.close()


@pytest.mark.parametrize(
    ("scope", "member", "path"),
    [("tenant", "ada", "sandbox"), ("member", "ada", "sandbox.d/member-ada"), ("member", None, "sandbox.d/session-s1"),
     ("session", "ada", "sandbox.d/session-s1")],
)  # fmt: skip
def test_the_scope_says_whose_it_is(tmp_path: Path, scope: Scope, member: str | None, path: str) -> None:
    made = make_tenant(tmp_path, sandbox=SandboxConfig(scope=scope), members=(Member(name="ada"),)).as_member(member)
    assert workspace_of(made, session_id=S1) == path
    made.root.close()


@pytest.mark.parametrize("member", ["", "..", "a/b", "Ada", "x" * 65])
def test_a_members_name_is_one(member: str) -> None:
    with pytest.raises(InvalidRequest):
        member_workspace(member)
    assert member_workspace("ada") == "sandbox.d/member-ada"


@pytest.mark.parametrize(
    ("path", "found"),
    [("/workspace", "."), ("/workspace/", "."), ("", "."), (".", "."), ("/workspace/a/b", "a/b"), ("a", "a"),
     ("/workspace//a", "a"), ("../x", "../x"), ("/workspace/../x", "../x")],
)  # fmt: skip
def test_an_agents_path_is_one_beneath_its_workspace(path: str, found: str) -> None:
    assert beneath(path) == found


@pytest.mark.parametrize("path", ["/", "/etc/passwd", "/workspaces/x", "//workspace/x"])
def test_others_are_refused(path: str) -> None:
    with pytest.raises(UnsafePath):
        beneath(path)


def test_it_is_shown_as_the_agent_knows_it() -> None:
    assert (shown("."), shown("a/b")) == ("/workspace", "/workspace/a/b")


def test_a_workspace_is_removed_whatever_is_in_it(tenant: Tenant, tmp_path: Path) -> None:
    root = tmp_path / "tenants/acme"
    outside = root / "memory"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    own = root / session_workspace(S1)
    own.mkdir(parents=True)
    (own / "link").symlink_to(outside)
    (own / "file").write_text("x")
    os.link(outside / "kept", own / "hard")
    os.mkfifo(own / "pipe")
    locked = own / "locked"
    locked.mkdir()
    (locked / "in").write_text("x")
    locked.chmod(0)
    at = os.open(own, os.O_RDONLY)
    for _ in range(1500):  # deeper than any path may be long
        os.mkdir("directory", dir_fd=at)
        below = os.open("directory", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    remove_workspace(tenant.root, session_workspace(S1))
    assert os.listdir(root / "sandbox.d") == []
    assert (outside / "kept").read_text() == "kept"


def test_one_that_is_not_there_is_removed_already(tenant: Tenant, tmp_path: Path) -> None:
    remove_workspace(tenant.root, session_workspace(S1))
    (tmp_path / "tenants/acme/sandbox.d").mkdir()
    remove_workspace(tenant.root, session_workspace(S1))
    assert os.listdir(tmp_path / "tenants/acme/sandbox.d") == []


def test_a_link_in_its_place_is_removed_and_not_followed(tenant: Tenant, tmp_path: Path) -> None:
    root = tmp_path / "tenants/acme"
    (root / "memory").mkdir()
    (root / "memory/kept").write_text("kept")
    (root / "sandbox.d").mkdir()
    (root / session_workspace(S1)).symlink_to(root / "memory")
    remove_workspace(tenant.root, session_workspace(S1))
    assert (root / "memory/kept").exists()
    assert os.listdir(root / "sandbox.d") == []
