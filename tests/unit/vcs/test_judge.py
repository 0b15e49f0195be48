from pathlib import Path

import pytest

from carrel.vcs.bare import NONE, Bare
from carrel.vcs.judge import Update, judge_commit, judge_push, read_commit, refusals
from carrel.vcs.settings import Hosted
from tests.fakes.declarations import GATEWAY, declare
from tests.fakes.repositories import Clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path / "clone")
    declare(made.path, acme="plan: pro\n")
    made.commit({})
    return made


@pytest.fixture
def bare(clone: Clone) -> Bare:
    return Bare(clone.path / ".git")


async def test_a_good_commit_has_its_tenants(clone: Clone, bare: Bare) -> None:
    found = await judge_commit(bare, clone.git("rev-parse", "HEAD"), Hosted())
    assert found.errors == ()
    assert found.tree is not None
    assert set(found.tree.tenants) == {"acme"}
    assert found.files["acme.yaml"] == b"plan: pro\n"


async def test_each_error_is_in_its_place(clone: Clone, bare: Bare) -> None:
    commit = clone.commit({"a.yaml": "plan: prp\n", "b.yaml": "plan: pro\nplan: pro\n", "c.yaml": b"x: \xff\n"})
    told = [str(p) for p in (await judge_commit(bare, commit, Hosted())).errors]
    assert [line.split(": ")[0] for line in told] == ["a.yaml:1:7", "b.yaml:2:1", "c.yaml:1:1"]


async def test_a_directory_below_is_judged_and_its_absence_explained(clone: Clone, bare: Bare) -> None:
    below = {name: (clone.path / name).read_text() for name in ("_gateway.yaml", "_plans.yaml", "_rate-card.yaml")}
    commit = clone.commit({
        **{f"house/tenants.d/{name}": text for name, text in below.items()},
        **dict.fromkeys((*below, "acme.yaml", "_allowlists.yaml")),
    })  # fmt: skip
    (problem,) = (await read_commit(bare, commit, Hosted())).shape
    assert "set `directory: house/tenants.d`" in str(problem)
    assert (await judge_commit(bare, commit, Hosted(directory="house/tenants.d/"))).problems == ()


async def test_a_tree_that_multiplies_itself_is_not_unfolded(clone: Clone, bare: Bare) -> None:
    """Ten trees that hold the one below ten times: few objects, and ten thousand million files."""
    tree = clone.raw_tree([("100644", b"f%d" % n, clone.blob(b"x")) for n in range(10)])
    for _ in range(9):
        tree = clone.raw_tree([("40000", b"d%d" % n, tree) for n in range(10)])
    (problem,) = (await read_commit(bare, clone.raw_commit(tree), Hosted(max_files=1000))).shape
    assert "over 1000 files" in str(problem)


async def test_a_link_is_refused_and_not_followed(clone: Clone, bare: Bare) -> None:
    tree = clone.raw_tree([*clone.entries(), ("120000", b"link.yaml", clone.blob(b"/etc/passwd"))])
    found = await judge_commit(bare, clone.raw_commit(tree), Hosted())
    assert ["link.yaml" in str(p) for p in found.errors] == [True]
    assert found.files == {}


async def test_what_a_push_may_not_ask_of_refs(clone: Clone, bare: Bare) -> None:
    first = clone.git("rev-parse", "HEAD")
    second = clone.commit({"_gateway.yaml": GATEWAY + "# more\n"})
    tree = clone.git("rev-parse", "HEAD^{tree}")
    for update, told in (
        (Update(second, first, "refs/heads/main"), "would lose commits"),
        (Update(first, NONE, "refs/heads/main"), "cannot be deleted"),
        (Update(NONE, second, "refs/heads/x"), "x is not taken here"),
        (Update(NONE, second, "refs/tags/x"), "tags are not taken here"),
        (Update(NONE, tree, "refs/heads/main"), "at a commit only"),
    ):
        (found,) = await refusals(bare, [update])
        assert told in found
        assert (await judge_push(bare, [update], Hosted()))[1] is None
    why, verdict = await judge_push(bare, [Update(first, second, "refs/heads/main")], Hosted())
    assert why == ()
    assert verdict is not None
    assert verdict.errors == ()
