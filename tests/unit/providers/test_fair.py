"""Places at a provider, shared out: a flood waits in its own line."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import RateLimited, UpstreamTimeout
from carrel.ids import TenantId
from carrel.providers import fair
from carrel.providers.fair import FairQueue

A, B, C = TenantId("a"), TenantId("b"), TenantId("c")


async def entered(queue: FairQueue, tenant: TenantId) -> asyncio.Task[None]:
    """A call of ``tenant`` that has a place or waits for one."""
    task = asyncio.create_task(queue.enter(tenant, provider="p", seconds=60))
    await asyncio.sleep(0)
    return task


async def test_one_tenant_alone_has_three_quarters_and_others_find_a_place() -> None:
    queue = FairQueue(8)
    assert [queue.enter_now(A) for _ in range(8)] == [True] * 6 + [False] * 2
    assert queue.enter_now(B)
    assert queue.enter_now(C)
    assert not queue.enter_now(B)
    assert queue.running == 8


async def test_who_has_the_fewest_is_next_and_a_flood_waits_behind_itself() -> None:
    queue = FairQueue(4)
    assert [queue.enter_now(A) for _ in range(3)] == [True] * 3
    flood = [await entered(queue, A) for _ in range(50)]
    assert queue.enter_now(B)
    polite = await entered(queue, B)
    other = await entered(queue, C)
    assert queue.waiting == 52
    queue.leave(A)
    await other
    assert (polite.done(), any(task.done() for task in flood)) == (False, False)
    queue.leave(A)
    await flood[0]
    assert not polite.done(), "who has as many and waits longer is first"
    queue.leave(C)
    await polite
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    for tenant in (A, A, B, B):
        queue.leave(tenant)
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_single_place_goes_round() -> None:
    queue = FairQueue(1)
    assert queue.enter_now(A)
    first, second = await entered(queue, A), await entered(queue, B)
    queue.leave(A)
    await asyncio.sleep(0)
    assert first.done() != second.done()
    queue.leave(A if first.done() else B)
    await asyncio.gather(first, second)


async def test_waiting_has_an_end_and_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = FairQueue(1)
    assert queue.enter_now(A)
    with pytest.raises(UpstreamTimeout, match="busy"):
        await queue.enter(B, provider="p", seconds=0)
    monkeypatch.setattr(fair, "MOST_WAITING", 1)
    waits = await entered(queue, A)
    with pytest.raises(RateLimited):
        await queue.enter(A, provider="p", seconds=1)
    waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    queue.leave(A)
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_place_that_is_given_to_who_just_left_is_given_on() -> None:
    queue = FairQueue(1)
    assert queue.enter_now(A)
    first, second = await entered(queue, B), await entered(queue, C)
    queue.leave(A)
    (first if queue._counts.get(B) else second).cancel()
    done = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(one) for one in done if one is not None] == [asyncio.CancelledError]
    assert queue.running == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["enter", "leave", "cancel"])), max_size=80),
       st.integers(1, 6))  # fmt: skip
def test_whatever_happens_no_place_is_lost_or_given_twice(steps: list[tuple[str, str]], limit: int) -> None:
    async def play() -> None:
        queue = FairQueue(limit)
        calls: list[tuple[TenantId, asyncio.Task[None]]] = []
        for name, what in steps:
            tenant = TenantId(name)
            mine = [call for call in calls if call[0] == tenant]
            if what == "enter":
                calls.append((tenant, await entered(queue, tenant)))
            elif what == "leave" and (inside := next((c for c in mine if c[1].done()), None)):
                calls.remove(inside)
                queue.leave(tenant)
            elif what == "cancel" and (outside := next((c for c in mine if not c[1].done()), None)):
                calls.remove(outside)
                outside[1].cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            inside_now = sum(call[1].done() for call in calls)
            assert queue.running == inside_now <= limit
            assert queue.waiting == len(calls) - inside_now
            if queue.waiting:
                assert queue.running > 0
        for _, task in calls:
            task.cancel()
        await asyncio.gather(*(task for _, task in calls), return_exceptions=True)

    asyncio.run(play())
