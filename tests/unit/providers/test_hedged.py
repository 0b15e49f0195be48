"""Two calls for one answer, each told when to go on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.base import SecretRef
from carrel.declare.gateway import Gateway, ModelConfig, ProviderConfig
from carrel.declare.tenant import TenantProvider
from carrel.providers.hedged import Claim, Hedge, Superseded, patience, raced
from carrel.tasks import Tasks
from tests.fakes.patience import eventually, soon
from tests.fakes.tenants import make_snapshot, make_tenant


@dataclass
class Calls:
    """Each call waits for its own leave before each of its events."""

    tasks: Tasks
    made: int = 0
    over: list[str] = field(default_factory=list)
    leave: dict[int, asyncio.Semaphore] = field(default_factory=dict)
    failing: dict[int, Exception] = field(default_factory=dict)
    length: int = 3

    def go(self, number: int, times: int = 100) -> None:
        for _ in range(times):
            self.leave.setdefault(number, asyncio.Semaphore(0)).release()

    async def make(self, claim: Claim) -> AsyncGenerator[str, None]:
        number, self.made = self.made, self.made + 1
        leave = self.leave.setdefault(number, asyncio.Semaphore(0))
        ending = "cancelled"
        try:
            for event in range(self.length):
                await leave.acquire()
                if number in self.failing:
                    ending = "failed"
                    raise self.failing[number]
                if not claim():
                    ending = "superseded"
                    raise Superseded
                yield f"{number}.{event}"
            ending = "whole"
        finally:
            await asyncio.sleep(0)
            self.over.append(f"{number} {ending}")

    def race(self, *, after: float = 0.001, room: bool = True, may: bool = True) -> "asyncio.Task[list[str]]":
        hedge = Hedge(after, lambda: room, self.tasks)

        async def told() -> list[str]:
            return [event async for event in raced(self.make, hedge, may=lambda: may)]

        return asyncio.ensure_future(told())


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    tasks = Tasks("hedges")
    yield Calls(tasks)
    assert not len(tasks), "no call outlives its answer"
    await tasks.close()


@pytest.mark.parametrize("winner", [0, 1])
async def test_whichever_begins_first_is_the_answer_and_the_other_is_over(calls: Calls, winner: int) -> None:
    task = calls.race()
    await eventually(lambda: calls.made == 2)
    calls.go(winner)
    assert await soon(task) == [f"{winner}.0", f"{winner}.1", f"{winner}.2"]
    assert sorted(calls.over) == sorted([f"{winner} whole", f"{1 - winner} cancelled"])


async def test_of_two_that_begin_at_once_one_is_superseded(calls: Calls) -> None:
    task = calls.race()
    await eventually(lambda: calls.made == 2)
    calls.go(0)
    calls.go(1)
    told = await soon(task)
    assert len({event[0] for event in told}) == 1
    assert len(told) == 3
    assert sorted(one.split()[1] for one in calls.over) == ["superseded", "whole"]


async def test_one_that_begins_in_time_is_not_made_again(calls: Calls) -> None:
    calls.go(0)
    assert await soon(calls.race(after=60)) == ["0.0", "0.1", "0.2"]
    assert calls.over == ["0 whole"]


@pytest.mark.parametrize("refused", [{"room": False}, {"may": False}])
async def test_where_there_is_no_room_one_call_is_waited_for(calls: Calls, refused: dict[str, Any]) -> None:
    task = calls.race(**refused)
    await asyncio.sleep(0.02)
    calls.go(0)
    assert await soon(task) == ["0.0", "0.1", "0.2"]
    assert calls.made == 1


async def test_one_that_fails_leaves_the_answer_to_the_other(calls: Calls) -> None:
    calls.failing[0] = OSError("the first")
    task = calls.race()
    await eventually(lambda: calls.made == 2)
    calls.go(0)
    await eventually(lambda: calls.over == ["0 failed"])
    assert not task.done()
    calls.go(1)
    assert await soon(task) == ["1.0", "1.1", "1.2"]


async def test_where_both_fail_it_is_what_the_first_failed_with(calls: Calls) -> None:
    calls.failing |= {0: OSError("the first"), 1: OSError("the second")}
    task = calls.race()
    await eventually(lambda: calls.made == 2)
    calls.go(1)
    calls.go(0)
    with pytest.raises(OSError, match="the first"):
        await soon(task)


async def test_a_failure_before_the_time_is_told_at_once(calls: Calls) -> None:
    calls.failing[0] = OSError("at once")
    calls.go(0)
    with pytest.raises(OSError, match="at once"):
        await soon(calls.race(after=60))
    assert calls.made == 1


async def test_a_failure_after_the_beginning_comes_behind_what_was_said(calls: Calls) -> None:
    told: list[str] = []
    calls.go(0, 1)
    with pytest.raises(OSError, match="later"):  # noqa: PT012 - what is told before is looked at
        async for event in raced(calls.make, Hedge(60, lambda: True, calls.tasks)):
            told.append(event)
            calls.failing[0] = OSError("later")
            calls.go(0, 1)
    assert told == ["0.0"]


async def test_who_stops_listening_ends_both(calls: Calls) -> None:
    task = calls.race()
    await eventually(lambda: calls.made == 2)
    task.cancel()
    await asyncio.wait({task})
    assert sorted(calls.over) == ["0 cancelled", "1 cancelled"]


async def test_an_answer_waits_for_a_slow_reader(calls: Calls) -> None:
    calls.length = 1000
    calls.go(0, 1000)
    answer = raced(calls.make, Hedge(60, lambda: True, calls.tasks))
    assert await anext(answer) == "0.0"
    await asyncio.sleep(0.02)
    assert calls.leave[0]._value > 900
    assert len([event async for event in answer]) == 999


async def test_without_a_hedge_it_is_one_call(calls: Calls) -> None:
    calls.go(0)
    assert [event async for event in raced(calls.make, None)] == ["0.0", "0.1", "0.2"]


def test_a_model_goes_before_its_provider_and_a_key_of_the_tenants_own_before_both(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    own = make_tenant(tmp_path / "own", providers={"slow": TenantProvider(api_key=SecretRef(secret="MINE"))})
    models = {
        "plain": ModelConfig(provider="quick"), "slow": ModelConfig(provider="slow"),
        "never": ModelConfig(provider="slow", hedge_after_ms=0), "own": ModelConfig(provider="quick", hedge_after_ms=7),
    }  # fmt: skip
    providers = {
        "quick": ProviderConfig(kind="openai"), "slow": ProviderConfig(kind="openai", hedge_after_ms=1500)
    }  # fmt: skip
    snapshot = replace(make_snapshot(tenant), gateway=Gateway(models=models, providers=providers))
    found = {name: patience(snapshot, tenant, name) for name in (*models, "none")}
    assert found == {"plain": None, "slow": 1.5, "never": None, "own": 0.007, "none": None}
    assert patience(snapshot, own, "slow") is None
    tenant.root.close()
    own.root.close()
