"""The responses of all tenants: kept, gone on from, and made in the background.

One that runs in the background belongs to this process: a gateway that starts anew finds it without anybody who makes
it, and says that it failed. What it used is in the ledger, whatever became of it.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

import apsw
import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, InvalidRequest, NotFound, RateLimited
from carrel.ids import TenantId
from carrel.responses import book, completions
from carrel.responses.book import ENDED, Json, Kept
from carrel.responses.completions import Completions
from carrel.store.tenants import TenantDatabases
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant

LOOK_SECONDS: Final = 1.0
RUNNING: Final = 16
"""Responses that are made in the background for one tenant at a time."""
_INTERRUPTED: Final = "The gateway stopped while this response was made; ask again."
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Run:
    """A response that is being made in the background. `note` takes the events of its stream as they come."""

    kept: Kept
    events: list[Json] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None
    over: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, event: Json) -> None:
        """One event of its stream."""
        self.events.append(event)
        self._wake()

    def end(self) -> None:
        """Nothing follows."""
        self.over = True
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int) -> AsyncIterator[Json]:
        """The events numbered above ``after``, as they come, to the last."""
        at = 0
        while True:
            while at < len(self.events):
                event = self.events[at]
                at += 1
                if int(event.get("sequence_number", at)) > after:
                    yield event
            if self.over:
                return
            await self._changed.wait()


Work = Callable[[Run], Coroutine[Any, Any, Json]]
"""Makes a response; gives the whole of it. Raises CarrelError."""


class Responses:
    """One instance, made by the composition root. ``settling`` are tasks that end what ``tasks`` are stopped in."""

    def __init__(self, *, clock: Clock, directory: Directory, tasks: Tasks, settling: Tasks) -> None:
        self._clock = clock
        self._directory = directory
        self.settling = settling
        self._tasks = tasks
        self._databases = TenantDatabases(directory="responses", name="responses.sqlite", schema=_schema)
        self.completions = Completions(clock=clock, databases=self._databases)
        self._runs: dict[tuple[TenantId, str, str], Run] = {}
        self._count: defaultdict[TenantId, int] = defaultdict(int)

    async def close(self) -> None:
        """Close the databases; what runs was ended before."""
        await self._databases.close()

    async def keep(self, tenant: Tenant, kept: Kept) -> None:
        """Write ``kept`` down; returns when it is on the disk."""
        await self._databases.run(tenant, book.put(kept, now=self._clock.now()))

    async def get(self, tenant: Tenant, response_id: str) -> Kept:
        """One of the tenant's responses, as far as it is; raises NotFound."""
        while True:
            made = self.running(tenant, response_id)
            kept = await self._databases.run(tenant, book.get(tenant.own or "", response_id, now=self._clock.now()))
            if kept.status in ENDED or self.running(tenant, response_id) is not None:
                return kept
            if made is None:
                break
            # It ended while it was read: how, has been written down since.
        kept = kept.ended(_failed(kept.body, "server_error", _INTERRUPTED))
        await self.keep(tenant, kept)
        return kept

    async def remove(self, tenant: Tenant, response_id: str) -> None:
        """Forget one, ending it first where it is still made; raises NotFound."""
        run = self.running(tenant, response_id)
        if run is not None:
            await self._end(run)
        await self._databases.run(tenant, book.remove(tenant.own or "", response_id))

    async def conversation(self, tenant: Tenant, response_id: str) -> list[Kept]:
        """The responses up to that one, oldest first; raises InvalidRequest where they cannot be gone on from."""
        try:
            before = book.chain(tenant.own or "", response_id, now=self._clock.now())
            found = await self._databases.run(tenant, before)
        except NotFound as error:
            raise InvalidRequest(error.message, param="previous_response_id") from None
        if found[-1].status not in ENDED:
            raise InvalidRequest("That response is not ended yet.", param="previous_response_id")
        return found

    def running(self, tenant: Tenant, response_id: str) -> Run | None:
        """The run of a response that is being made in the background."""
        return self._runs.get((tenant.id, tenant.own or "", response_id))

    async def start(self, tenant: Tenant, kept: Kept, work: Work) -> Run:
        """Make ``kept`` in the background by ``work``; raises RateLimited where too many are made already."""
        if self._count[tenant.id] >= RUNNING:
            raise RateLimited(f"{RUNNING} responses are made in the background already.", retry_after=5.0)
        self._count[tenant.id] += 1
        try:
            await self.keep(tenant, kept)
        except BaseException:
            self._count[tenant.id] -= 1
            raise
        run = Run(kept)
        self._runs[tenant.id, kept.owner, kept.id] = run
        run.task = self._tasks.start(self._make(tenant, run, work), name=f"make {kept.id}")
        # A task that is cancelled before its first step never takes one, and so would never say that it ended.
        await asyncio.sleep(0)
        return run

    async def cancel(self, tenant: Tenant, response_id: str) -> Kept:
        """End one that is made in the background; raises NotFound, InvalidRequest for one that never was."""
        run = self.running(tenant, response_id)
        if run is not None:
            await self._end(run)
        kept = await self.get(tenant, response_id)
        if not kept.body.get("background"):
            raise InvalidRequest("Only a response that is made in the background can be cancelled.")
        return kept

    @staticmethod
    async def _end(run: Run) -> None:
        if run.task is not None and not run.task.done():
            run.task.cancel()
            await asyncio.wait([run.task])

    async def _watch(self, tenant_id: TenantId, run: Run) -> None:
        """End ``run`` where its tenant is suspended or gone: nobody else would."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            tenant = self._directory.current.tenants.get(tenant_id)
            if (tenant is None or tenant.suspended) and run.task is not None:
                run.task.cancel()
                return

    async def _make(self, tenant: Tenant, run: Run, work: Work) -> None:
        body: Json = run.kept.body | {"status": "cancelled"}
        watch = self.settling.start(self._watch(tenant.id, run), name=f"watch {run.kept.id}")
        try:
            body = await work(run)
        except asyncio.CancelledError:
            # What was asked to end is ended in order: that it ended is written down below.
            body = run.kept.body | {"status": "cancelled"}
        except CarrelError as error:
            body = _failed(run.kept.body, error.code, error.message)
        except Exception:  # noqa: BLE001 - the root of what nobody waits for
            _log.exception("a background response failed", tenant=tenant.id, response=run.kept.id)
            body = _failed(run.kept.body, "server_error", "The gateway failed; its operator finds it in the log.")
        finally:
            watch.cancel()
            kept = run.kept.ended(body)
            streamed = tuple(run.events)
            if streamed and kept.status in ("failed", "cancelled"):
                last = {"type": f"response.{'failed' if kept.status == 'failed' else 'incomplete'}"}
                run.note({**last, "sequence_number": len(streamed), "response": kept.body})
                streamed = tuple(run.events)
            try:
                await self.keep(tenant, Kept(
                    kept.body, kept.items, kept.created, kept.previous, kept.session, kept.owner, streamed,
                ))  # fmt: skip
            finally:
                self._runs.pop((tenant.id, kept.owner, kept.id), None)
                self._count[tenant.id] -= 1
                run.end()


def _schema(connection: apsw.Connection) -> None:
    book.upgrade(connection)
    completions.upgrade(connection)


def _failed(body: Json, code: str, message: str) -> Json:
    known = "rate_limit_exceeded" if code in ("quota_exceeded", "rate_limited") else "server_error"
    return body | {"status": "failed", "error": {"code": known, "message": message}}
