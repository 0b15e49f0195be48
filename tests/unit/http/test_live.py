"""Requests in flight."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from carrel.http.auth import OperatorCaller
from carrel.http.live import LiveRequests
from carrel.http.services import Limits
from carrel.ids import RequestId
from tests.fakes.clock import FakeClock

LIMITS = Limits(recheck_seconds=0.4, request_seconds=100, write_stall_seconds=10)


class Transport:
    """A transport whose buffer a test fills."""

    def __init__(self) -> None:
        self.size = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def connections(*transports: Transport | None) -> Iterator[Any]:
    return iter([SimpleNamespace(transport=t) for t in transports])


async def begin(live: LiveRequests, *, key: str = "") -> Any:
    entry = live.enter(RequestId("req_1"), asyncio.ensure_future(asyncio.sleep(60)))
    entry.caller = OperatorCaller("ops", credential=key) if key else None
    await asyncio.sleep(0)
    return entry


async def ended(entry: Any) -> bool:
    await asyncio.sleep(0)
    return bool(entry.task.cancelled())


async def test_a_request_whose_credential_ends_is_ended() -> None:
    clock, good = FakeClock(), {"a": True}
    live = LiveRequests(clock, LIMITS, lambda caller: good.get(caller.credential, False))
    kept, dropped, young = await begin(live, key="a"), await begin(live, key="b"), None
    live.recheck()
    assert not await ended(dropped)
    clock.advance(0.5)
    young = await begin(live, key="b")
    live.recheck()
    assert await ended(dropped)
    assert dropped.ended == "revoked"
    assert not await ended(kept)
    assert not await ended(young)
    live.end_all("shutdown")
    assert await ended(kept)
    assert await ended(young)


async def test_a_request_past_its_deadline_is_ended() -> None:
    clock = FakeClock()
    live = LiveRequests(clock, LIMITS, lambda caller: True)
    entry = await begin(live)
    clock.advance(100)
    live.recheck()
    assert not await ended(entry)
    clock.advance(1)
    live.recheck()
    assert await ended(entry)
    assert entry.ended == "deadline"


async def test_a_stalled_reader_is_cut_off_and_a_slow_one_is_not() -> None:
    clock = FakeClock()
    live = LiveRequests(clock, LIMITS, lambda caller: True)
    stalled, slow, idle = Transport(), Transport(), Transport()
    stalled.size = slow.size = 100_000
    for _ in range(30):
        slow.size -= 1000
        live.cut_stalled(connections(stalled, slow, idle, None))
        clock.advance(1)
    assert stalled.aborted
    assert not slow.aborted
    assert not idle.aborted


async def test_a_drain_waits_for_what_runs() -> None:
    live = LiveRequests(FakeClock(), LIMITS, lambda caller: True)
    assert await live.drained(0)
    entry = await begin(live)
    assert len(live) == 1
    assert not await live.drained(0.01)
    entry.task.cancel()
    live.leave(entry)
    assert await live.drained(0.01)


async def test_the_round_goes_on_until_cancelled() -> None:
    clock = FakeClock()
    live = LiveRequests(clock, LIMITS, lambda caller: False)
    entry = await begin(live, key="x")
    watching = asyncio.ensure_future(live.watch(connections))
    for _ in range(3):
        await asyncio.sleep(0)
        clock.advance(0.5)
        await asyncio.sleep(0)
    assert await ended(entry)
    watching.cancel()
