import asyncio
import errno
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from carrel.errors import CarrelError, StorageFull, Unavailable
from carrel.gitops.follow import LONGEST_LOOK_SECONDS, LOOK_SECONDS, Before, Follower
from carrel.vcs.bare import BY_COMMAND, Bare
from carrel.vcs.revisions import Revisions
from carrel.vcs.settings import GitSettings, PushSettings
from carrel.vcs.tree import Entry
from tests.fakes.clock import FakeClock
from tests.fakes.gitops import GATEWAY, Followed, Recorded, put


class House:
    """A follower on a repository of its own, which can be started again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.bare = Bare(place / "tenants.git")
        self.audit = Recorded()
        self.reconciler = Followed()
        self.clock = FakeClock()

    async def start(self, first: Before | None = None) -> Follower:
        made = Follower(
            repository=self.bare, revisions=Revisions(self.place), settings=GitSettings(push=PushSettings()),
            audit=self.audit, clock=self.clock, first=first,
        )  # fmt: skip
        await made.prepare()
        made.attach(self.reconciler)
        return made


@pytest.fixture
async def house(tmp_path: Path) -> House:
    made = House(tmp_path / "git")
    await made.bare.init(receives=1 << 20)
    return made


async def test_before_the_first_push_nobody_is_declared(house: House) -> None:
    follower = await house.start()
    assert follower.revision is None
    assert follower.report()["revision"] == "none yet"
    assert (await follower.take()).revision == "none"
    assert house.audit.lines == []


async def test_a_push_is_exported_swapped_in_and_written_down(house: House) -> None:
    follower = await house.start()
    first = await put(house.bare, {"_gateway.yaml": GATEWAY})
    second = await put(house.bare, {"acme.yaml": b"plan: pro\n", "README": b"not a declaration"}, by="git:bob")
    taken = await follower.take()
    assert (taken.revision, taken.by) == (second, "git:bob")
    assert house.reconciler.moves == [{"_gateway.yaml": GATEWAY, "acme.yaml": b"plan: pro\n"}]
    assert Revisions(house.place).current == second
    assert house.audit.lines == [
        ("git:alice", "git.push", None, first, "ok"), ("git:bob", "git.push", first, second, "ok"),
    ]  # fmt: skip
    assert (await follower.take()) is taken


async def test_what_is_the_same_is_not_read_again_and_what_was_changed_there_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await house.start()
    first = await put(house.bare, {"_gateway.yaml": GATEWAY, "acme.yaml": b"plan: pro\n", "b.yaml": b"plan: pro\n"})
    await follower.take()
    read: list[set[str]] = []
    blobs = house.bare.blobs

    async def told(entries: Mapping[str, Entry]) -> dict[str, bytes]:
        read.append(set(entries))
        return await blobs(entries)

    monkeypatch.setattr(house.bare, "blobs", told)
    await put(house.bare, {"b.yaml": b"plan: max\n"})
    await follower.take()
    assert read == [{"b.yaml"}]
    files = {"_gateway.yaml": GATEWAY, "acme.yaml": b"plan: pro\n", "b.yaml": b"plan: max\n"}
    assert house.reconciler.moves[-1] == files
    assert house.reconciler.digests == {n: hashlib.sha256(d).hexdigest() for n, d in files.items()}
    # Somebody edits what was exported: the branch counts.
    current = house.place / "revisions" / str(Revisions(house.place).current)
    (current / "acme.yaml").write_bytes(b"plan: own\n")
    await put(house.bare, {"b.yaml": None})
    await follower.take()
    assert read[-1] == {"acme.yaml"}
    assert house.reconciler.moves[-1] == {"_gateway.yaml": GATEWAY, "acme.yaml": b"plan: pro\n"}
    assert (house.place / "revisions" / first / "acme.yaml").exists()


async def test_a_change_by_command_is_not_written_down_twice(house: House) -> None:
    follower = await house.start()
    await put(house.bare, {"_gateway.yaml": GATEWAY}, by="uid:0", how=BY_COMMAND)
    await follower.take()
    assert house.audit.lines == []


async def test_what_was_pushed_while_it_was_down_is_taken_at_the_start(house: House) -> None:
    await (await house.start()).take()
    commit = await put(house.bare, {"_gateway.yaml": GATEWAY})
    again = await house.start()
    assert again.revision == commit
    assert [(line[0], line[3]) for line in house.audit.lines] == [("git:alice", commit)]
    # Half an export, and a link to what is gone, as a power cut leaves them.
    shutil.rmtree(house.place / "revisions" / commit)
    assert (await house.start()).revision == commit
    assert len(house.audit.lines) == 1


async def test_a_commit_that_may_not_be_read_leaves_what_was_in_force(house: House) -> None:
    good = await put(house.bare, {"_gateway.yaml": GATEWAY})
    follower = await house.start()
    bad = await put(house.bare, {"_gateway.yaml": None, "x.yaml": b""})
    with pytest.raises(Unavailable, match=r"_gateway\.yaml"):
        await follower.take()
    assert follower.revision == good
    assert follower.report()["refused"] == bad
    assert (await house.start()).revision == good


async def test_what_cannot_be_written_waits_and_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = await house.start()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pushed = await put(house.bare, {"_gateway.yaml": GATEWAY})
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(StorageFull):
            await follower.take()
    assert "The disk is full" in str(follower.report()["waits"])
    assert follower.report()["revision"] == "none yet"
    assert (await follower.take()).revision == pushed
    assert "waits" not in follower.report()


async def test_it_looks_by_itself(house: House) -> None:
    follower = await house.start()
    watching = asyncio.create_task(follower.watch())
    try:
        commit = await put(house.bare, {"_gateway.yaml": GATEWAY})
        async with asyncio.timeout(60):
            while follower.revision != commit:
                house.clock.advance(LOOK_SECONDS)
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_before_it_is_attached_nothing_is_taken(tmp_path: Path, house: House) -> None:
    made = Follower(
        repository=house.bare, revisions=Revisions(house.place), settings=GitSettings(push=PushSettings()),
        audit=house.audit, clock=house.clock,
    )  # fmt: skip
    with pytest.raises(Unavailable, match="still starting"):
        await made.take()


class First:
    """What comes before a revision is in force; it fails so many times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.asked: list[str] = []

    async def __call__(self, directory: Path) -> None:
        self.asked.append(directory.name)
        if len(self.asked) <= self.failures:
            raise CarrelError("the store does not answer")


async def test_a_revision_waits_for_what_comes_before(house: House) -> None:
    first = First(failures=1)
    follower = await house.start(first)
    commit = await put(house.bare, {"_gateway.yaml": GATEWAY})
    with pytest.raises(CarrelError, match="does not answer"):
        await follower.take()
    assert (follower.revision, house.reconciler.moves, house.audit.lines) == (None, [], [])
    assert follower.report()["waits"] == "the store does not answer"
    assert (await follower.take()).revision == commit
    assert "waits" not in follower.report()
    assert first.asked == [commit, commit]


async def test_a_gateway_that_starts_with_one_waits_too(house: House) -> None:
    commit = await put(house.bare, {"_gateway.yaml": GATEWAY})
    first = First(failures=1)
    follower = await house.start(first)
    assert (follower.revision, first.asked) == (None, [commit])
    assert (await follower.take()).revision == commit
    assert (await house.start(first)).revision == commit


async def test_what_fails_is_tried_again_later_and_later(house: House) -> None:
    first = First(failures=10_000)
    follower = await house.start(first)
    await put(house.bare, {"_gateway.yaml": GATEWAY})
    watching = asyncio.create_task(follower.watch())

    async def looks(count: int) -> None:
        """Let it look so often, and be done each time."""
        for _ in range(count):
            while not house.clock.sleepers:
                await asyncio.sleep(0.01)
            house.clock.advance(LOOK_SECONDS)
            await asyncio.sleep(0)
        while not house.clock.sleepers:
            await asyncio.sleep(0.01)

    try:
        async with asyncio.timeout(60):
            await looks(200)
            # 2, 4, 8, 16, 32, and from then on once in 64 seconds.
            assert 200 * LOOK_SECONDS / LONGEST_LOOK_SECONDS < len(first.asked) < 13
            count = len(first.asked)
            await put(house.bare, {"acme.yaml": b""})
            await looks(2)
            assert len(first.asked) > count, "what is new is tried at once"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_push_whose_revision_cannot_be_swapped_in_at_once_has_one_line(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = await house.start()
    first = await put(house.bare, {"_gateway.yaml": GATEWAY})
    swap = Revisions.swap

    def full(self: Revisions, revision: str) -> None:
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(Revisions, "swap", full)
    for _ in range(2):
        with pytest.raises(StorageFull):
            await follower.take()
    monkeypatch.setattr(Revisions, "swap", swap)
    again = await house.start()
    assert again.revision == first
    second = await put(house.bare, {"acme.yaml": b"plan: pro\n"}, by="git:bob")
    await again.take()
    assert house.audit.lines == [
        ("git:alice", "git.push", None, first, "ok"), ("git:bob", "git.push", first, second, "ok"),
    ]  # fmt: skip
