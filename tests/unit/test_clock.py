import asyncio
from datetime import UTC, datetime, timedelta

from carrel.clock import SystemClock, remaining
from tests.fakes.clock import FakeClock


async def test_wall_time_is_aware_utc_and_intervals_never_go_back() -> None:
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    before, between, after = clock.now(), clock.micros(), clock.now()
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=between)
    assert before - timedelta(microseconds=1) <= moment <= after + timedelta(microseconds=1)
    first = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= first


async def test_the_fake_wakes_who_slept_long_enough() -> None:
    clock = FakeClock()
    sleeper = asyncio.ensure_future(clock.sleep(10))
    await asyncio.sleep(0)
    clock.advance(9)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1)
    await sleeper


async def test_a_jump_leaves_intervals_alone() -> None:
    clock = FakeClock()
    before = clock.monotonic()
    clock.jump(-3600)
    assert clock.monotonic() == before
    assert clock.micros() == clock.now().timestamp() * 1_000_000


def test_what_remains_is_by_the_pace_so_far() -> None:
    assert remaining(25, 100, 10.0) == 30.0
    assert remaining(120, 100, 10.0) == 0
    assert [remaining(0, 100, 9.0), remaining(5, 0, 9.0), remaining(5, 100, 0.5)] == [None, None, None]
