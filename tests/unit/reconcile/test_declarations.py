import errno
import os
import subprocess
from pathlib import Path

import pytest

from carrel.errors import InvalidRequest, NotFound, StorageFull
from carrel.ids import RequestId, TenantId
from carrel.reconcile.declarations import Declarations
from carrel.vcs.git import GitFailed
from carrel.wire.control import Actor
from tests.fakes.declarations import declare

BY = Actor("uid:0", RequestId("req_1"))
ACME = TenantId("acme")


class Settled:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    async def settled(self) -> object:
        self.times += 1
        return self.times

    async def order(self, tenant: TenantId, *, removal: bool) -> None:
        self.times += removal


@pytest.fixture
def declarations(tmp_path: Path) -> Declarations:
    declare(tmp_path / "tenants.d", acme="# kept\nplan: starter\n")
    return Declarations(tenants_dir=tmp_path / "tenants.d", reconciler=Settled())


async def test_a_change_that_does_not_validate_leaves_the_file(declarations: Declarations) -> None:
    with pytest.raises(InvalidRequest, match=r"acme\.yaml:\d+:\d+"):
        await declarations.update(ACME, {("plan",): "nope"}, what="Change", by=BY)
    assert declarations.file(ACME).read_text() == "# kept\nplan: starter\n"


async def test_a_change_of_nothing_commits_nothing(declarations: Declarations) -> None:
    assert await declarations.update(ACME, {("plan",): "starter"}, what="Change", by=BY) is None


async def test_a_commit_that_fails_takes_the_change_back(declarations: Declarations) -> None:
    top = declarations.file(ACME).parent
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    (top / ".git" / "HEAD.lock").write_text("held by somebody")
    with pytest.raises(GitFailed):
        await declarations.update(ACME, {("plan",): "pro"}, what="Change", by=BY)
    assert declarations.file(ACME).read_text() == "# kept\nplan: starter\n"


async def test_without_room_for_it_a_change_is_not_made(
    declarations: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("carrel.vcs.plain._write", full)
    with pytest.raises(StorageFull, match="was not made"):
        await declarations.update(ACME, {("plan",): "pro"}, what="Change", by=BY)
    assert declarations.file(ACME).read_text() == "# kept\nplan: starter\n"


async def test_no_temporary_file_is_left(declarations: Declarations) -> None:
    await declarations.update(ACME, {("plan",): "pro"}, what="Change", by=BY)
    await declarations.remove(ACME, by=BY)
    assert not [n for n in os.listdir(declarations.file(ACME).parent) if n.endswith(".tmp") or n == "acme.yaml"]


async def test_a_missing_file_is_said_to_be_missing(declarations: Declarations) -> None:
    with pytest.raises(NotFound, match=r"newco\.yaml"):
        await declarations.update(TenantId("newco"), {("plan",): "pro"}, what="Change", by=BY)
