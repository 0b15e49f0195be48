"""Calls with an idempotency key: done once, also where the caller, the connection or the gateway goes away meanwhile.

A call that a gateway's death cut off is done again under the same seed; what it makes has the same ids, so that a
method finds what it had made before. A refusal is not kept: the call had no effect, and may be tried again.
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from carrel.clock import Clock
from carrel.errors import CarrelError, Conflict
from carrel.http.rpc.registry import Context, Method, done
from carrel.ids import RequestId, TenantId
from carrel.store.once import KeyReused, OnceStore
from carrel.tasks import Tasks

_SECRET: Final = "null"  # noqa: S105 - the answer that is kept in place of one that holds a secret


@dataclass(frozen=True, slots=True)
class _Running:
    digest: str
    task: "asyncio.Task[dict[str, Any] | CarrelError]"


class Keyed:
    """Runs calls under their keys. One instance, made by the composition root."""

    def __init__(self, *, store: OnceStore, clock: Clock, tasks: Tasks) -> None:
        self._store = store
        self._clock = clock
        self._tasks = tasks
        self._running: dict[tuple[TenantId, str | None, str], _Running] = {}

    async def run(self, context: Context, method: Method, params: BaseModel, key: str) -> dict[str, Any]:
        """The answer to the call, done now, before, or by somebody who has just begun. Raises KeyReused."""
        digest = _digest(method, params)
        place = (context.tenant.id, context.tenant.member, key)
        running = self._running.get(place)
        if running is not None and running.digest != digest:
            raise KeyReused("That idempotency key is in use for another call; take a new one for each call.")
        if running is None:
            task = self._tasks.start(self._outcome(context, method, params, key, digest), name="keyed call")
            running = self._running[place] = _Running(digest, task)
            task.add_done_callback(lambda _: self._running.pop(place, None))
        try:
            outcome = await asyncio.shield(running.task)
        except asyncio.CancelledError:
            # Who lost the connection comes back and asks again; who lost the right to ask does not.
            if not context.allowed():
                running.task.cancel()
            raise
        if isinstance(outcome, CarrelError):
            raise outcome
        return outcome

    async def _outcome(
        self, context: Context, method: Method, params: BaseModel, key: str, digest: str
    ) -> dict[str, Any] | CarrelError:
        tenant = context.tenant
        try:
            once = await self._store.begin(tenant, key, digest, now=self._clock.now())
            if once.state == "done":
                return _answered(once.answer)
            seed = hashlib.sha256(f"{tenant.id}\0{tenant.member or ''}\0{key}".encode()).hexdigest()[:24]
            own = replace(context, seed=seed, again=once.state == "again", request_id=RequestId(f"req_{seed}"))
            try:
                answer = await done(own, method, params)
            except CarrelError as error:
                await self._store.forget(tenant, key)
                return error
            await self._store.finish(tenant, key, _SECRET if method.secret else json.dumps(answer))
        except CarrelError as error:
            return error
        return answer


def _answered(kept: str) -> dict[str, Any] | CarrelError:
    if kept == _SECRET:
        return Conflict("This was done under that idempotency key already, and its answer is shown once only.")
    answer: dict[str, Any] = json.loads(kept)
    return answer


def _digest(method: Method, params: BaseModel) -> str:
    """What makes two calls the same one; only this is kept of a call's parameters."""
    told = f"{method.name}\0{params.model_dump_json()}"
    return hashlib.sha256(told.encode()).hexdigest()
