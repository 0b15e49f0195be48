from pathlib import Path

import pytest

from carrel.errors import Conflict
from carrel.vcs.bare import Bare, Moved
from carrel.vcs.branch import Branch, Elsewhere
from carrel.vcs.git import Author
from carrel.vcs.plain import Change
from carrel.vcs.settings import Hosted, PullSettings

WHO = Author("ops", "ops@example.org")
GATEWAY = b"providers: {}\n"


class Place:
    """A branch with a gateway's file, and how often it was told that a commit is on it."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.taken = 0
        self.branch = Branch(bare, Hosted(directory="d"), taken=self.take)

    async def take(self) -> None:
        self.taken += 1

    async def push(self, files: dict[str, bytes | None]) -> str:
        """What somebody else puts on the branch."""
        tip = await self.bare.tip()
        commit = await self.bare.commit_files(tip, files, "push\n", Author("alice", "a@x"))
        await self.bare.advance(commit, tip, WHO, how="push")
        return commit


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    bare = Bare(tmp_path / "git" / "tenants.git")
    await bare.init(receives=1 << 20)
    return Place(bare)


async def test_files_are_written_by_commits_and_read_from_the_tip(place: Place) -> None:
    assert await place.branch.read("acme.yaml") is None
    first = await place.branch.write({"_gateway.yaml": Change(None, GATEWAY)}, "begin\n", WHO)
    second = await place.branch.write({"acme.yaml": Change(None, b"plan: pro\n")}, "Add acme\n", WHO)
    assert await place.branch.read("acme.yaml") == b"plan: pro\n"
    assert place.taken == 2
    assert [c.sha for c in await place.branch.commits([], limit=9)] == [second, first]
    assert [c.sha for c in await place.branch.commits(["acme.yaml"], limit=9)] == [second]
    assert await place.branch.files(first) == {"_gateway.yaml": GATEWAY}
    assert set(await place.branch.files(None)) == {"_gateway.yaml", "acme.yaml"}
    assert await place.branch.uncommitted() == ()


async def test_a_push_that_came_first_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push lands between the look at the branch and the move of it: the change is made on top."""
    await place.push({"d/_gateway.yaml": GATEWAY, "d/acme.yaml": b"plan: pro\n"})
    advance, times = place.bare.advance, 0

    async def interrupted(new: str, old: str | None, by: Author, *, how: str = "carrel") -> None:
        nonlocal times
        times += 1
        if times == 1:
            monkeypatch.setattr(place.bare, "advance", advance)
            await place.push({"d/pushed.yaml": b"plan: pro\n"})
        await advance(new, old, by, how=how)

    monkeypatch.setattr(place.bare, "advance", interrupted)
    await place.branch.write({"acme.yaml": Change(b"plan: pro\n", b"plan: team\n")}, "Change\n", WHO)
    assert await place.branch.files(None) == {
        "_gateway.yaml": GATEWAY, "acme.yaml": b"plan: team\n", "pushed.yaml": b"plan: pro\n",
    }  # fmt: skip
    assert [c.subject for c in await place.branch.commits([], limit=9)] == ["Change", "push", "push"]


async def test_a_push_that_changed_the_same_file_is_not_written_over(place: Place) -> None:
    await place.push({"d/_gateway.yaml": GATEWAY, "d/acme.yaml": b"plan: pro\n"})
    await place.push({"d/acme.yaml": b"plan: pushed\n"})
    with pytest.raises(Moved):
        await place.branch.write({"acme.yaml": Change(b"plan: pro\n", b"plan: team\n")}, "Change\n", WHO)
    assert await place.branch.read("acme.yaml") == b"plan: pushed\n"
    assert place.taken == 0


async def test_what_is_pulled_is_not_changed_here(place: Place) -> None:
    commit = await place.push({"_gateway.yaml": GATEWAY})
    elsewhere = Elsewhere(place.bare, PullSettings(url="https://example.org/t.git", unsigned=True))
    assert await elsewhere.read("_gateway.yaml") == GATEWAY
    with pytest.raises(Conflict, match=r"https://example\.org/t\.git: commit the change there"):
        await elsewhere.write({"acme.yaml": Change(None, b"")}, "x", WHO)
    assert await place.bare.tip() == commit


async def test_a_commit_whose_tree_may_not_be_read_is_refused(place: Place) -> None:
    commit = await place.push({"elsewhere.yaml": b""})
    with pytest.raises(Conflict, match="cannot be read"):
        await place.branch.files(commit)
