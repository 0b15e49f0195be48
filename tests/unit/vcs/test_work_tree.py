from pathlib import Path

import pytest

from carrel.errors import Conflict, NotFound
from carrel.vcs.work_tree import WorkTree
from tests.fakes.repositories import Clone

GATEWAY = "providers: {}\n"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    made.commit({"tenants.d/_gateway.yaml": GATEWAY, "README": "x\n"}, "begin")
    made.commit({"tenants.d/acme.yaml": "plan: pro\n"}, "acme")
    made.commit({"README": "y\n"}, "not a declaration")
    return made


async def test_the_commits_of_declarations(clone: Clone) -> None:
    tree = WorkTree(clone.path / "tenants.d")
    assert [c.subject for c in await tree.commits([], limit=9)] == ["acme", "begin"]
    assert [c.subject for c in await tree.commits(["_gateway.yaml"], limit=9)] == ["begin"]
    assert await tree.commit_of("HEAD") == clone.git("rev-parse", "HEAD")
    assert await tree.files("HEAD~2") == {"_gateway.yaml": GATEWAY.encode()}
    with pytest.raises(NotFound):
        await tree.commit_of("nope")


async def test_what_is_not_committed_is_known(clone: Clone) -> None:
    tree = WorkTree(clone.path / "tenants.d")
    assert await tree.uncommitted() == ()
    (clone.path / "tenants.d" / "new.yaml").write_text("")
    (clone.path / "tenants.d" / "acme.yaml").unlink()
    assert await tree.uncommitted() == ("acme.yaml", "new.yaml")
    assert set(await tree.files(None)) == {"_gateway.yaml", "new.yaml"}


async def test_what_moved_is_seen_without_reading(clone: Clone, tmp_path: Path) -> None:
    tree = WorkTree(clone.path / "tenants.d")
    before = await tree.signature()
    assert await tree.signature() == before
    (clone.path / "tenants.d" / "acme.yaml").write_text("plan: team\n")
    changed = await tree.signature()
    assert changed != before
    clone.commit({"tenants.d/acme.yaml": "plan: team\n"}, "committed")
    assert await tree.signature() != changed
    assert await tree.uncommitted() == ()
    (tmp_path / "elsewhere").mkdir()
    assert await WorkTree(tmp_path / "elsewhere").signature() is None


async def test_at_the_top_of_a_linked_work_tree(clone: Clone, tmp_path: Path) -> None:
    clone.git("worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
    tree = WorkTree(tmp_path / "linked" / "tenants.d")
    assert set(await tree.files("HEAD")) == {"_gateway.yaml", "acme.yaml"}


async def test_where_there_is_no_git_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="in no git work tree"):
        await WorkTree(tmp_path).commits([], limit=1)
