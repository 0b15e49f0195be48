"""Places to run in: so many of a tenant, so many of all, in fair shares."""

import asyncio

import pytest

from carrel.errors import SandboxBusy
from carrel.ids import TenantId
from carrel.sandbox.slots import Slots

A, B, C = TenantId("a"), TenantId("b"), TenantId("c")


class Crowd:
    """Runs that hold their places until they are told to end, in the order in which they began."""

    def __init__(self, machine: int) -> None:
        self.slots = Slots(machine)
        self.began: list[TenantId] = []
        self._running: list[tuple[TenantId, asyncio.Event]] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, tenant: TenantId, count: int, *, most: int = 1000, weight: int = 100) -> None:
        """Let so many runs of a tenant come, one after the other."""
        for _ in range(count):
            self._tasks.append(asyncio.ensure_future(self._hold(tenant, most, weight)))
            await settle()

    async def end(self, tenant: TenantId | None = None) -> None:
        """End the run that began first, of this tenant or of any."""
        place = next(i for i, (whose, _) in enumerate(self._running) if tenant in (None, whose))
        self._running.pop(place)[1].set()
        await settle()

    def running(self, tenant: TenantId) -> int:
        """How many of a tenant's run."""
        return sum(whose == tenant for whose, _ in self._running)

    async def over(self) -> None:
        """Cancel what is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hold(self, tenant: TenantId, most: int, weight: int) -> None:
        async with self.slots.taken(tenant, most, wait=60, weight=weight, queued=1000):
            until = asyncio.Event()
            self.began.append(tenant)
            self._running.append((tenant, until))
            await until.wait()


async def hold(slots: Slots, tenant: TenantId, most: int, log: list[str], until: asyncio.Event) -> None:
    async with slots.taken(tenant, most, wait=30):
        log.append(tenant)
        await until.wait()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_tenant_at_its_limit_waits_and_another_does_not() -> None:
    slots, log, until = Slots(10), [""], asyncio.Event()
    runs = [asyncio.ensure_future(hold(slots, tenant, 2, log, until)) for tenant in (A, A, A, B)]
    await settle()
    assert log[1:] == [A, A, B]
    until.set()
    await asyncio.gather(*runs)
    assert log[1:] == [A, A, B, A]


async def test_the_machine_has_a_limit_of_its_own() -> None:
    slots, log, until = Slots(1), [""], asyncio.Event()
    runs = [asyncio.ensure_future(hold(slots, tenant, 2, log, until)) for tenant in (A, B)]
    await settle()
    assert log[1:] == [A]
    until.set()
    await asyncio.gather(*runs)
    assert log[1:] == [A, B]


async def test_who_waits_too_long_is_told_which_limit_it_was() -> None:
    slots = Slots(1)
    async with slots.taken(A, 1, wait=1):
        with pytest.raises(SandboxBusy, match=r"sandbox\.concurrent"):
            async with slots.taken(A, 1, wait=0.01):
                pass
        with pytest.raises(SandboxBusy, match="This machine"):
            async with slots.taken(B, 1, wait=0.01):
                pass


async def test_who_is_cancelled_while_waiting_takes_no_place() -> None:
    slots, log, until = Slots(10), [""], asyncio.Event()
    runs = [asyncio.ensure_future(hold(slots, A, 1, log, until)) for _ in range(3)]
    await settle()
    runs[1].cancel()
    await settle()
    until.set()
    await asyncio.gather(*runs, return_exceptions=True)
    assert log[1:] == [A, A]
    async with slots.taken(A, 1, wait=0.01):
        pass


async def test_who_is_cancelled_as_its_turn_comes_hands_it_on() -> None:
    slots, log, until = Slots(10), [""], asyncio.Event()
    waiting: asyncio.Task[None] | None = None
    async with slots.taken(A, 1, wait=1):
        waiting = asyncio.ensure_future(hold(slots, A, 1, log, until))
        last = asyncio.ensure_future(hold(slots, A, 1, log, until))
        await settle()
    waiting.cancel()
    await settle()
    assert log[1:] == [A]
    until.set()
    await asyncio.gather(waiting, last, return_exceptions=True)


async def test_two_hundred_that_wait_hold_up_nobody_else() -> None:
    crowd = Crowd(4)
    await crowd.come(A, 200)
    await crowd.come(B, 1)
    assert crowd.began == [A] * 4
    await crowd.end()
    assert crowd.began == [A] * 4 + [B], "the place that came free first is the other tenant's"
    await crowd.come(C, 2)
    await crowd.end(A)
    await crowd.end(A)
    assert crowd.began[5:] == [C, A], "one each for who has fewest: B has one, and then C has, and then A has one left"
    await crowd.over()


async def test_a_full_machine_is_shared_evenly_between_all_that_want_it() -> None:
    crowd = Crowd(6)
    await crowd.come(A, 60)
    await crowd.come(B, 60)
    await crowd.come(C, 60)
    for _ in range(12):
        await crowd.end()
    assert [crowd.running(tenant) for tenant in (A, B, C)] == [2, 2, 2]
    before = len(crowd.began)
    for _ in range(30):
        await crowd.end()
    assert [crowd.began[before:].count(tenant) for tenant in (A, B, C)] == [10, 10, 10]
    await crowd.over()


async def test_a_share_is_by_weight() -> None:
    crowd = Crowd(8)
    await crowd.come(A, 80, weight=100)
    await crowd.come(B, 80, weight=300)
    for _ in range(16):
        await crowd.end()
    assert (crowd.running(A), crowd.running(B)) == (2, 6)
    await crowd.over()


async def test_who_has_the_machine_alone_may_have_all_of_it() -> None:
    crowd = Crowd(4)
    await crowd.come(A, 4, weight=1)
    assert crowd.running(A) == 4
    await crowd.come(B, 1, most=1, weight=10_000)
    assert crowd.running(B) == 0, "nobody who runs is turned out"
    await crowd.end()
    assert crowd.running(B) == 1
    await crowd.over()


async def test_a_tenant_at_its_own_limit_leaves_its_turn_to_others() -> None:
    crowd = Crowd(3)
    await crowd.come(A, 10, most=1, weight=10_000)
    await crowd.come(B, 10)
    assert (crowd.running(A), crowd.running(B)) == (1, 2)
    await crowd.end(A)
    assert (crowd.running(A), crowd.running(B)) == (1, 2)
    await crowd.over()


async def test_so_many_may_wait_and_one_more_is_told_at_once() -> None:
    slots = Slots(10)
    async with slots.taken(A, 1, wait=1):
        waiting = [asyncio.ensure_future(hold(slots, A, 1, [], asyncio.Event())) for _ in range(2)]
        await settle()
        with pytest.raises(SandboxBusy, match=r"sandbox\.queued"):
            async with slots.taken(A, 1, wait=60, queued=2):
                pass
        async with slots.taken(B, 1, wait=60, queued=0):
            pass
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_is_refused_at_once_leaves_nothing_of_theirs_behind() -> None:
    slots = Slots(1)
    async with slots.taken(A, 1, wait=1):
        with pytest.raises(SandboxBusy):
            async with slots.taken(B, 1, wait=60, queued=0):
                pass
        assert list(slots._shares) == [A]
    assert not slots._shares


async def test_a_cancelled_one_that_is_passed_over_gives_no_place_away() -> None:
    crowd = Crowd(1)
    await crowd.come(A, 3)
    victim = crowd._tasks[1]
    victim.cancel()
    # Its future is cancelled already, and itself has not been told yet, as the place comes free.
    crowd._running.pop(0)[1].set()
    await settle()
    assert crowd.running(A) == 1
    await crowd.end()
    await crowd.come(B, 2)
    assert crowd.running(B) == 1, "there is one place, as before"
    await crowd.over()
    assert not crowd.slots._shares
    assert crowd.slots._running == 0
