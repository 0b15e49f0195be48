"""An answer that does not begin is asked for once more: whichever of the two calls says something first is the answer.

Off unless a model or its provider declares `hedge_after_ms`. Knows no meter: whoever makes the calls holds and settles
each of them as any other. The relay races its bytes for itself (`relay.hedged`), and takes from here when it may.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import structlog

from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant

T = TypeVar("T")
Claim = Callable[[], bool]
"""Asked by a call at each event, before it acts on it: whether the answer is its own. The first that asks has it."""
Make = Callable[[Claim], AsyncGenerator[T, None]]
_AHEAD: Final = 64
"""Events that wait for a slow reader before the vendor does."""
_log = structlog.get_logger(__name__)


class Superseded(Exception):
    """Raised by a call whose answer another call has begun."""


@dataclass(frozen=True, slots=True)
class Hedge:
    """After how many seconds a call is made once more, and whether the provider has a place that nobody waits for."""

    after: float
    has_room: Callable[[], bool]
    tasks: Tasks


def patience(snapshot: Snapshot, tenant: Tenant, name: str) -> float | None:
    """Seconds after which a call of the model ``name`` is made once more; None where it never is.

    Not with a key of the tenant's own, whose money it is.
    """
    model = snapshot.gateway.models.get(name)
    provider = snapshot.gateway.providers.get(model.provider) if model is not None else None
    if model is None or provider is None or model.provider in tenant.config.providers:
        return None
    after = provider.hedge_after_ms if model.hedge_after_ms is None else model.hedge_after_ms
    return after / 1000 if after else None


async def raced(
    make: Make[T], hedge: Hedge | None, *, may: Callable[[], bool] = lambda: True
) -> AsyncGenerator[T, None]:
    """The events of one call that ``make`` makes, or of a second one where the first does not begin in time.

    ``may`` says then whether a second one can be made. Where both fail before they begin, raises what the first did.
    The one that loses is cancelled, and is at its end before the first event is given.
    """
    if hedge is None:
        async with aclosing(make(lambda: True)) as alone:
            async for event in alone:
                yield event
        return
    race = _Race()
    calls = [_Contender(make, race, hedge.tasks)]
    try:
        await race.wait(calls, seconds=hedge.after)
        if race.winner is None and not calls[0].task.done() and may() and hedge.has_room():
            _log.info("a call that does not begin is made once more")
            calls.append(_Contender(make, race, hedge.tasks))
            await race.wait(calls)
        won = next((call for call in calls if call is race.winner), calls[0])
        for call in calls:
            if call is not won:
                await call.end()
        async for event in won.events():
            yield event
    finally:
        for call in calls:
            await call.end()


class _Race:
    """Who was the first to say something."""

    def __init__(self) -> None:
        self.winner: object = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def claimed(self, by: object) -> bool:
        """Whether the answer is ``by``'s, now or before."""
        if self.winner is None:
            self.winner = by
            if not self.begun.done():
                self.begun.set_result(None)
        return self.winner is by

    async def wait(self, calls: "list[_Contender[T]]", *, seconds: float | None = None) -> None:
        """Wait until one of ``calls`` has begun, all have failed, or the time is over."""
        left: set[asyncio.Future[None]] = {call.task for call in calls if not call.task.done()}
        while self.winner is None and left:
            done, _ = await asyncio.wait({*left, self.begun}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            left -= done
            if not done:
                return


class _Contender(Generic[T]):
    """One call in a task of its own, so that it begins and ends in one."""

    def __init__(self, make: Make[T], race: _Race, tasks: Tasks) -> None:
        self._make = make
        self._race = race
        self._told: asyncio.Queue[tuple[T] | None] = asyncio.Queue(_AHEAD)
        self.task = tasks.start(self._run(), name="call")

    async def _run(self) -> None:
        try:
            async with aclosing(self._make(lambda: self._race.claimed(self))) as events:
                async for event in events:
                    await self._told.put((event,))
        except Superseded:
            return
        finally:
            if not self._told.full():
                self._told.put_nowait(None)

    async def events(self) -> AsyncIterator[T]:
        """What it tells; raises what it raised."""
        while not (self.task.done() and self._told.empty()):
            told = await self._told.get()
            if told is None:
                break
            yield told[0]
        await self.task

    async def end(self) -> None:
        """Cancel it where it still runs, and wait for its end."""
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})
