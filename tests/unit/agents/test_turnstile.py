"""One at a time, in order, whoever gives up meanwhile."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.agents.turnstile import Turnstile
from carrel.errors import RateLimited, Unavailable
from tests.fakes.patience import PATIENCE


async def test_those_who_wait_pass_in_the_order_of_coming() -> None:
    turnstile = Turnstile("it")
    passed: list[int] = []

    async def one(number: int) -> None:
        async with turnstile.passing("k"):
            await asyncio.sleep(0)
            passed.append(number)

    await asyncio.gather(*(one(number) for number in range(10)))
    assert passed == list(range(10))
    assert len(turnstile) == 0


async def test_other_keys_do_not_wait() -> None:
    turnstile = Turnstile("it")
    async with turnstile.passing("a"), turnstile.passing("b"):
        assert len(turnstile) == 2


async def test_too_many_are_turned_away_at_once() -> None:
    turnstile = Turnstile("this session", max_waiting=1)
    async with turnstile.passing("k"):
        waiting = asyncio.ensure_future(enter(turnstile))
        await asyncio.sleep(0)
        with pytest.raises(RateLimited, match="this session"):
            await enter(turnstile)
    await waiting
    await enter(turnstile)


async def test_nobody_waits_for_ever() -> None:
    turnstile = Turnstile("this session", wait_seconds=0.01)
    async with turnstile.passing("k"):
        with pytest.raises(Unavailable, match="This session was busy"):
            await enter(turnstile)
    await enter(turnstile)
    assert len(turnstile) == 0


async def enter(turnstile: Turnstile) -> None:
    async with turnstile.passing("k"):
        await asyncio.sleep(0)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=10))
def test_whoever_is_cancelled_the_others_pass_one_by_one(plan: list[tuple[int, int]]) -> None:
    async def scenario() -> None:
        turnstile = Turnstile("it")
        inside = 0
        passed: list[int] = []

        async def one(number: int, steps: int) -> None:
            nonlocal inside
            async with turnstile.passing("k"):
                inside += 1
                assert inside == 1
                try:
                    for _ in range(steps):
                        await asyncio.sleep(0)
                finally:
                    inside -= 1
                passed.append(number)

        tasks = [asyncio.ensure_future(one(number, steps)) for number, (steps, _) in enumerate(plan)]
        doomed = [(after, task) for task, (_, after) in zip(tasks, plan, strict=True) if after]
        for step in range(8):
            for after, task in doomed:
                if after == step:
                    task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks, return_exceptions=True)
        assert passed == sorted(passed)
        assert {n for n, (_, after) in enumerate(plan) if not after} <= set(passed)
        assert len(turnstile) == 0

    asyncio.run(scenario())
