"""An environment is asked for once in a turn, and only where a tool needs it."""

import asyncio

import pytest

from carrel.agents import userland
from carrel.agents.userland import TurnUserland
from carrel.errors import Unavailable
from carrel.tasks import Tasks
from carrel.tenancy.userland import Userland
from tests.fakes.patience import eventually
from tests.fakes.sandbox import HOST, FakeEnvironments

PACKAGES = frozenset({"git"})


async def test_all_tools_share_one_question() -> None:
    tasks, environments, notices = Tasks("t"), FakeEnvironments(delay=0.01), list[str]()
    found = TurnUserland(environments, PACKAGES, tasks=tasks)
    assert environments.asked == []
    assert await asyncio.gather(*(found.get(notices.append) for _ in range(3))) == [HOST] * 3
    assert environments.asked == [PACKAGES]
    assert notices == []
    await found.close()
    await tasks.close()


async def test_a_build_is_announced_and_its_failure_told_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userland, "QUIET_SECONDS", 0.01)
    tasks, notices = Tasks("t"), list[str]()

    class Building(FakeEnvironments):
        async def userland(self, packages: frozenset[str], *, wait: float) -> Userland:
            await eventually(lambda: notices)
            return await super().userland(packages, wait=wait)

    environments = Building(error=Unavailable("still being built"))
    found = TurnUserland(environments, PACKAGES, tasks=tasks)
    for _ in range(2):
        with pytest.raises(Unavailable, match="still being built"):
            await found.get(notices.append)
    assert len(notices) == 1
    await tasks.close()


async def test_nothing_goes_on_after_the_turn() -> None:
    tasks = Tasks("t")
    found = TurnUserland(FakeEnvironments(delay=3600), PACKAGES, tasks=tasks)
    waiting = asyncio.ensure_future(found.get(lambda _: None))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await found.close()
    assert len(tasks) == 0
    await TurnUserland(FakeEnvironments(), PACKAGES, tasks=tasks).close()
    await tasks.close()
