"""Trying again: how often, how long between, and when not."""

import asyncio

import pytest

from carrel.errors import InvalidRequest, UpstreamError, UpstreamTimeout
from carrel.providers.retry import LONGEST_RETRY_AFTER_SECONDS, LONGEST_WAIT_SECONDS, may_retry, with_retries


class Clock:
    """Sleeps by noting how long, and lets time pass so."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Attempts:
    """Fails with each of ``errors``, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def run(attempts: Attempts, clock: Clock, *, retries: int = 5, deadline: float = 1000.0) -> str:
    return await with_retries(attempts, max_retries=retries, clock=clock, deadline=deadline, provider="p")  # type: ignore[arg-type] # a clock without wall time


def busy(retry_after: float | None = None) -> UpstreamError:
    return UpstreamError("busy", status=503, retryable=True, retry_after=retry_after)


async def test_waits_grow_with_jitter_up_to_a_limit() -> None:
    clock = Clock()
    assert await run(Attempts(*[busy()] * 8), clock, retries=8) == "done"
    for number, waited in enumerate(clock.slept):
        base = min(0.5 * 2**number, LONGEST_WAIT_SECONDS)
        assert base <= waited <= base + 0.5


async def test_a_vendors_wish_is_honoured_where_it_is_longer() -> None:
    clock = Clock()
    await run(Attempts(busy(5.0), busy(0.0)), clock)
    assert clock.slept[0] == 5.0
    assert clock.slept[1] >= 1.0


async def test_tries_are_counted() -> None:
    attempts = Attempts(*[busy()] * 9)
    with pytest.raises(UpstreamError, match="busy"):
        await run(attempts, Clock(), retries=2)
    assert attempts.made == 3


async def test_no_wait_passes_the_deadline() -> None:
    attempts, clock = Attempts(*[busy(20.0)] * 9), Clock()
    with pytest.raises(UpstreamError, match="busy"):
        await run(attempts, clock, deadline=50.0)
    assert attempts.made == 3
    assert sum(clock.slept) < 50


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError("no", status=400),
        UpstreamTimeout("late", retryable=True),
        InvalidRequest("no"),
        busy(LONGEST_RETRY_AFTER_SECONDS + 1),
        ValueError("a bug"),
    ],
)
async def test_what_is_not_tried_again(error: Exception) -> None:
    assert not may_retry(error)
    attempts = Attempts(error)
    with pytest.raises(type(error)):
        await run(attempts, Clock())
    assert attempts.made == 1


async def test_cancelling_ends_it() -> None:
    attempts = Attempts()
    attempts.errors = [asyncio.CancelledError()]  # type: ignore[list-item] # what a cancelled task raises
    with pytest.raises(asyncio.CancelledError):
        await run(attempts, Clock())
    assert attempts.made == 1
