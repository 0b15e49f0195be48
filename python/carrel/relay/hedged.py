"""A second call of a stream that does not begin: whichever of the two says something first is the answer.

Off unless a model or its provider declares `hedge_after_ms`. A wrapper, as the guard is: each of the two is a call like
any other, with its own hold against the tenant's quotas, its own place at the provider and its own row in the ledger.
The one that loses is cancelled, and its prompt is in the bill as that of every cancelled call is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

import structlog

from carrel.errors import CarrelError
from carrel.ids import RequestId
from carrel.providers.guard import Guard
from carrel.providers.hedged import patience
from carrel.relay.answer import Answer, Caller, CallerGone
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.response import PassesOn
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant

_log = structlog.get_logger(__name__)


Go = Callable[[Caller, CallFields], Awaitable[Answer]]


class _Race:
    """Who of those that want to answer ``caller`` was the first to say something."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.winner: _Contender | None = None
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def claimed(self, by: "_Contender") -> bool:
        """Whether ``by`` may write: it has won, now or before."""
        if self.winner is None:
            self.winner = by
            self.caller.keeps = by.keeps
            if not self.begun.done():
                self.begun.set_result(None)
        return self.winner is by


class _Contender:
    """See `answer.Caller`: one call's view of the caller, which it may write to once it has won."""

    def __init__(self, race: _Race) -> None:
        self._race = race
        self._keeps = race.caller.keeps

    @property
    def keeps(self) -> bool:
        return self._keeps

    @keeps.setter
    def keeps(self, value: bool) -> None:
        self._keeps = value
        if self._race.winner is self:
            self._race.caller.keeps = value

    @property
    def modern(self) -> bool:
        return self._race.caller.modern

    @property
    def paused(self) -> bool:
        return self._race.caller.paused

    def lines(self) -> str:
        return self._race.caller.lines()

    def put(self, data: bytes) -> None:
        if not self._race.claimed(self):
            raise CallerGone
        self._race.caller.put(data)

    async def drained(self) -> None:
        await self._race.caller.drained()

    def abort(self) -> None:
        if self._race.winner is self:
            self._race.caller.abort()


class _Call(NamedTuple):
    """One of the two, while it is made."""

    contender: _Contender
    task: "asyncio.Task[Answer]"


class HedgedRelay(PassesOn):
    """A relay like any other."""

    def __init__(self, relay: PassesOn, guard: Guard, tasks: Tasks) -> None:
        self._relay = relay
        self._guard = guard
        self._tasks = tasks

    def pass_on(
        self,
        caller: Caller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: CallFields,
        more: bytes = b"",
    ) -> Coroutine[Any, Any, Answer]:
        """See `relay.Relay.pass_on`."""
        # Only streams, for a whole answer's beginning is its end.
        after = patience(snapshot, tenant, fields.model) if fields.stream else None
        if after is None:
            return self._relay.pass_on(caller, tenant, snapshot, request_id, body, fields=fields, more=more)
        return self._hedged(caller, tenant, snapshot, request_id, body, fields=fields, more=more, after=after)

    async def _hedged(
        self,
        caller: Caller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: CallFields,
        more: bytes,
        after: float,
    ) -> Answer:
        """The answer of a call, or of a second one, made where the first has not begun ``after`` so many seconds."""

        async def go(to: Caller, its: CallFields) -> Answer:
            return await self._relay.pass_on(to, tenant, snapshot, request_id, body, fields=its, more=more)

        race = _Race(caller)
        first = self._start(go, race, fields)
        try:
            await asyncio.wait(_any(first.task, race.begun), timeout=after, return_when=asyncio.FIRST_COMPLETED)
            if first.task.done() or race.winner is not None or not self._has_room(tenant, snapshot, fields):
                return await first.task
            second = self._start(go, race, fields)
            try:
                return await self._decided(race, first, second, request_id)
            finally:
                await _ended(second.task)
        finally:
            await _ended(first.task)

    def _start(self, go: Go, race: _Race, fields: CallFields) -> _Call:
        async def made() -> Answer:
            its = fields.apart()
            answer = await go(contender, its)
            if race.winner is contender:
                fields.take(its)
            return answer

        contender = _Contender(race)
        return _Call(contender, self._tasks.start(made(), name="call"))

    async def _decided(
        self, race: _Race, first: _Call, second: _Call, request_id: RequestId
    ) -> Answer:  # fmt: skip
        """The answer of whichever begins first; where both fail before, the error of the first."""
        _log.info("a call that does not begin is made once more", request_id=request_id)
        waiting = {first.task, second.task}
        while race.winner is None and waiting:
            await asyncio.wait(_any(*waiting, race.begun), return_when=asyncio.FIRST_COMPLETED)
            waiting = {task for task in waiting if not task.done()}
        won, lost = (second, first) if race.winner is second.contender else (first, second)
        if race.winner is not None:
            lost.task.cancel()
            _log.info("a hedged call is answered", request_id=request_id, by="second" if won is second else "first")
        return await won.task

    def _has_room(self, tenant: Tenant, snapshot: Snapshot, fields: CallFields) -> bool:
        """Whether the provider has a place that nobody waits for."""
        name = snapshot.gateway.models[fields.model].provider
        return self._guard.has_room(tenant, name, snapshot.gateway.providers[name])


def _any(*waited: "asyncio.Future[Any]") -> "set[asyncio.Future[Any]]":
    """Calls and the beginning of one, to be waited for alike."""
    return set(waited)


async def _ended(task: "asyncio.Task[Answer]") -> None:
    """Cancel a call that still runs, and wait until its row is written."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled() and isinstance(task.exception(), CarrelError):
        _log.debug("a call of two failed", error=str(task.exception()))
