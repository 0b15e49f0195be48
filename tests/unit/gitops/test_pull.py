import asyncio
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.gitops.follow import Follower
from carrel.gitops.pull import MAX_WAIT, Mark, Puller
from carrel.vcs.bare import Bare
from carrel.vcs.git import Author
from carrel.vcs.remote import Unreachable
from carrel.vcs.revisions import Revisions
from carrel.vcs.settings import GitSettings, PullSettings
from tests.fakes.clock import FakeClock
from tests.fakes.gitops import GATEWAY, Followed, Recorded

SETTINGS = PullSettings(url="https://example.org/t.git", unsigned=True, interval_seconds=60)


class Upstream:
    """A remote whose branch is in the same objects: what it is at, and which commits are not signed."""

    def __init__(self) -> None:
        self.at: str | CarrelError = Unreachable("nobody answers")
        self.unsigned_ones: set[str] = set()
        self.looked: list[tuple[str | None, str]] = []

    async def fetch(self) -> str:
        if isinstance(self.at, CarrelError):
            raise self.at
        return self.at

    async def unsigned(self, old: str | None, new: str) -> tuple[str, ...]:
        self.looked.append((old, new))
        return tuple(f"{new[:12]} is not signed" for _ in [0] if new in self.unsigned_ones)


class House:
    """A puller and what it stands on."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bare = Bare(place / "tenants.git")
        self.upstream = Upstream()
        self.clock = FakeClock()
        self.reconciler = Followed()
        self.audit = Recorded()
        self.mark = Mark(place / "mark.json")

    async def start(self, settings: PullSettings = SETTINGS) -> Puller:
        await self.bare.init(receives=1 << 20)
        self.follower = Follower(
            repository=self.bare, revisions=Revisions(self.place), settings=GitSettings(pull=settings),
            audit=self.audit, clock=self.clock,
        )  # fmt: skip
        puller = Puller(
            remote=self.upstream, repository=self.bare, settings=settings, mark=self.mark, follower=self.follower,
            clock=self.clock,
        )  # fmt: skip
        await puller.look(take=False)
        await self.follower.prepare()
        self.follower.attach(self.reconciler)
        return puller

    async def upstream_commit(self, files: dict[str, bytes | None], parent: str | None) -> str:
        """A commit that the remote's branch is at from now on; no branch here moves."""
        commit = await self.bare.commit_files(parent, files, "upstream\n", Author("u", "u@x"))
        self.upstream.at = commit
        return commit


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = House(tmp_path / "git")
    await made.bare.init(receives=1 << 20)
    return made


async def test_what_is_ahead_is_taken_and_marked(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    puller = await house.start()
    assert house.follower.revision == first
    second = await house.upstream_commit({"acme.yaml": b""}, first)
    answer = await puller.look()
    assert (answer.state, answer.revision) == ("Ready", second)
    assert house.mark.read() == second
    assert house.upstream.looked == [(None, first), (first, second)]
    assert [(line[0], line[1], line[3]) for line in house.audit.lines] == [
        ("git:pull", "git.pull", first), ("git:pull", "git.pull", second),
    ]  # fmt: skip
    assert house.follower.report()["pull"] == "Ready"


async def test_a_force_push_and_an_older_commit_are_refused_until_they_are_accepted(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    second = await house.upstream_commit({"acme.yaml": b""}, first)
    puller = await house.start()
    other = await house.upstream_commit({"evil.yaml": b""}, first)
    answer = await puller.look()
    assert (answer.state, answer.revision) == ("Diverged", second)
    assert "force-push" in answer.message
    house.upstream.at = first
    answer = await puller.look()
    assert (answer.state, answer.revision) == ("Older", second)
    assert f"carrel git pull --accept {first}" in answer.message
    assert (await puller.look(accept=other)).state == "Older"
    house.upstream.at = other
    answer = await puller.look(accept=other)
    assert (answer.state, answer.revision) == ("Ready", other)
    assert house.mark.read() == other


async def test_the_mark_outlives_the_repository(house: House, tmp_path: Path) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    second = await house.upstream_commit({"acme.yaml": b""}, first)
    await house.start()
    assert house.mark.read() == second
    other = House(tmp_path / "other")
    await other.bare.init(receives=1 << 20)
    other.mark = house.mark
    old = await other.upstream_commit({"_gateway.yaml": GATEWAY, "old.yaml": b""}, None)
    puller = await other.start()
    assert puller.state == "Diverged"
    assert await other.bare.tip() != old
    assert (await puller.look(accept=old)).state == "Ready"
    assert other.upstream.looked[-1] == (None, old), "of what it has not, it can trust nothing"


async def test_nothing_unsigned_is_taken_and_it_is_not_looked_at_again(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    puller = await house.start()
    unsigned = await house.upstream_commit({"acme.yaml": b""}, first)
    house.upstream.unsigned_ones.add(unsigned)
    for _ in range(3):
        answer = await puller.look()
        assert (answer.state, answer.revision) == ("Unsigned", first)
    assert house.upstream.looked.count((first, unsigned)) == 1
    assert (await puller.look(accept=unsigned)).state == "Unsigned"
    assert house.mark.read() == first


async def test_trust_begins_where_it_is_said_to(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    second = await house.upstream_commit({"acme.yaml": b""}, first)
    await house.start(PullSettings(url="https://example.org/t.git", unsigned=True, signed_since=first))
    assert house.upstream.looked == [(first, second)]


async def test_a_tree_that_may_not_be_is_not_taken(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    puller = await house.start()
    await house.upstream_commit({"big.yaml": b"#" * (2 << 20)}, first)
    answer = await puller.look()
    assert (answer.state, answer.revision) == ("Malformed", first)


async def test_failures_make_it_wait_longer_and_success_ends_that(house: House) -> None:
    puller = await house.start()
    assert puller.state == "Unreachable"
    waits = []
    for _ in range(9):
        waits.append(puller.wait())
        await puller.look()
    assert waits[0] >= 60 * 2 * 0.8
    assert waits[3] > waits[0]
    assert max(waits) <= MAX_WAIT * 1.2
    assert waits[-1] >= MAX_WAIT * 0.8
    await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    assert (await puller.look()).state == "Ready"
    assert puller.wait() <= 60 * 1.2


async def test_a_nudge_is_a_look(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    puller = await house.start()
    watching = asyncio.create_task(puller.watch())
    try:
        second = await house.upstream_commit({"acme.yaml": b""}, first)
        puller.nudge()
        async with asyncio.timeout(60):
            while house.follower.revision != second:
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_kill_between_mark_and_branch_is_made_good(house: House) -> None:
    first = await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    house.mark.write(first)
    puller = await house.start()
    assert (puller.state, await house.bare.tip()) == ("Ready", first)


async def test_a_damaged_mark_stops_it(house: House) -> None:
    await house.upstream_commit({"_gateway.yaml": GATEWAY}, None)
    (house.place / "mark.json").write_text("{}")
    puller = await house.start()
    assert puller.state == "Failed"
    assert "damaged" in puller.message
    assert await house.bare.tip() is None
