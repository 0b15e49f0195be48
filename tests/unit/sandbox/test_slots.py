"""Places to run in: so many of a tenant, so many of all, in order."""

import asyncio

import pytest

from carrel.errors import SandboxUnavailable
from carrel.ids import TenantId
from carrel.sandbox.slots import Slots

A, B = TenantId("a"), TenantId("b")


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
        with pytest.raises(SandboxUnavailable, match=r"sandbox\.concurrent"):
            async with slots.taken(A, 1, wait=0.01):
                pass
        with pytest.raises(SandboxUnavailable, match="This machine"):
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
