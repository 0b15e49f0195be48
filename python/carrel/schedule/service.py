"""The schedule of all tenants: looks when the next job is due, claims it, runs it as a turn, and tells how it went."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import apsw
import structlog

from carrel.clock import Clock
from carrel.declare.jobs import DeclaredJob
from carrel.errors import CarrelError, Conflict, NotFound, StorageFailed, Unavailable
from carrel.events.hub import Hub
from carrel.ids import TenantId
from carrel.schedule import book
from carrel.schedule.book import Job, Kept, Run
from carrel.schedule.declared import declared_job
from carrel.store.tenants import TenantDatabases
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.tenancy.paths import TenantRoot

LOOK_SECONDS: Final = 30.0
"""How often new tenants, and a wall clock that jumped, are looked for."""
SET_BACK: Final = timedelta(seconds=1)
"""What of the wall clock's way back is more than a clock that is kept right."""
AGAIN_SECONDS: Final = 1.0
"""After how long an ending that the disk refused is tried again."""
RUNNING_PER_TENANT: Final = 4
KEPT_TEXT: Final = 20_000
TOLD_TEXT: Final = 4_000
_PATH: Final = "cron/cron.sqlite"

_log = structlog.get_logger(__name__)


class Speaks(Protocol):
    """Says a job's message to its agent."""

    async def __call__(self, tenant: Tenant, snapshot: Snapshot, job: Job, run: Run, /) -> str:
        """The agent's answer; raises CarrelError."""
        ...


class Schedule:
    """One instance, made by the composition root. ``run`` it for as long as the gateway serves."""

    def __init__(
        self, *, state_dir: Path, directory: Directory, clock: Clock, tasks: Tasks, hub: Hub, speak: Speaks
    ) -> None:
        self._state_dir = state_dir
        self._directory = directory
        self._clock = clock
        self._tasks = tasks
        self._hub = hub
        self._speak = speak
        self._databases = TenantDatabases(directory="cron", name="cron.sqlite", schema=book.upgrade)
        self._due: dict[TenantId, datetime | None] = {}
        self._seen: dict[TenantId, tuple[TenantRoot, Mapping[str, DeclaredJob]]] = {}
        self._looked = float("-inf")
        self._apart: datetime | None = None
        self._running: dict[str, tuple[TenantId, str, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()

    # --- jobs ---

    async def list(self, tenant: Tenant) -> Sequence[Kept]:
        """The tenant's jobs; a member's own where members have what is theirs."""
        await self._known(tenant)
        found = await self._databases.run(tenant, book.jobs)
        return [one for one in found if _sees(tenant, one.job)]

    async def get(self, tenant: Tenant, job_id: str) -> Kept:
        """One job; raises NotFound."""
        await self._known(tenant)
        found = await self._databases.run(tenant, lambda c: book.job(c, job_id))
        if not _sees(tenant, found.job):
            raise NotFound("There is no such job; cron.list tells what there is.")
        return found

    async def put(self, tenant: Tenant, job: Job, *, new: bool) -> Kept:
        """Keep a job, in force at once. Raises Conflict where it is a declared one."""
        _require_own(tenant, job)
        await self._known(tenant)
        # A time that passed while the order was on its way here was not past when it was given: it is due at once.
        kept = await self._databases.run(tenant, lambda c: book.put(c, job, now=job.updated, new=new))
        await self._changed(tenant)
        self._tell(tenant, job, "added" if new else "updated", {})
        return kept

    async def remove(self, tenant: Tenant, job_id: str) -> None:
        """Remove a job with its history; a run of it that goes on is not stopped. Raises NotFound, Conflict."""
        kept = await self.get(tenant, job_id)
        _require_own(tenant, kept.job)
        await self._databases.run(tenant, lambda c: book.remove(c, job_id))
        await self._changed(tenant)
        self._tell(tenant, kept.job, "removed", {})

    async def runs(self, tenant: Tenant, job_id: str | None) -> Sequence[Run]:
        """The runs of a job, or of all that the caller may see."""
        seen = {one.job.id for one in await self.list(tenant)}
        if job_id is not None and job_id not in seen:
            raise NotFound("There is no such job; cron.list tells what there is.")
        return [run for run in await self._databases.run(tenant, lambda c: book.runs(c, job_id)) if run.job in seen]

    async def run_now(self, tenant: Tenant, job_id: str, *, run_id: str, wait: bool) -> Run:
        """Run a job now, also to its end where ``wait``. Raises Conflict where it runs already."""
        kept, now = await self.get(tenant, job_id), self._clock.now()
        known = self._running.get(run_id)
        if known is None and job_id in self.busy(tenant):
            raise Conflict("The job runs already; cron.runs tells how it goes.")
        run, new = await self._databases.run(tenant, lambda c: book.begin(c, kept.job, now=now, run_id=run_id))
        if new:
            self._start(tenant, kept.job, run)
        if wait and run_id in self._running:
            await asyncio.wait([self._running[run_id][2]])
        return next(r for r in await self._databases.run(tenant, lambda c: book.runs(c, job_id)) if r.id == run_id)

    def busy(self, tenant: Tenant) -> frozenset[str]:
        """The jobs of a tenant that run now."""
        return frozenset(job for whose, job, _ in self._running.values() if whose == tenant.id)

    # --- time ---

    async def run(self) -> None:
        """Follow the clock until cancelled."""
        while True:
            self._follow_clock()
            if self._clock.monotonic() - self._looked >= LOOK_SECONDS:
                self._looked = self._clock.monotonic()
                await self._look()
            for tenant_id in self._due_now():
                await self._guarded(tenant_id, self._claim)
            await self._rest()

    def _follow_clock(self) -> None:
        """Where the wall clock was set back, every job's next time is found anew."""
        apart = self._clock.now() - timedelta(seconds=self._clock.monotonic())
        if self._apart is not None and apart < self._apart - SET_BACK:
            _log.warning("the clock was set back", seconds=round((self._apart - apart).total_seconds(), 1))
            self._seen.clear()
            self._looked = float("-inf")
        self._apart = apart

    async def follow(self, applied: object) -> None:
        """Something else is declared, or a tenant was restored: ``run`` looks at once."""
        self._looked = float("-inf")
        self._wake.set()

    async def close(self) -> None:
        """Close the databases; stop ``run`` first."""
        await self._databases.close()

    async def _look(self) -> None:
        """Find tenants with jobs that were not seen before, or are not as they were: restored, or declared anew."""
        tenants = self._directory.current.tenants
        for gone in self._seen.keys() - tenants.keys():
            del self._seen[gone]
            self._due.pop(gone, None)
        changed = [tenant for tenant in tenants.values() if not self._is_known(tenant)]
        declaring = {tenant.id for tenant in changed if tenant.config.cron}
        others = [tenant.id for tenant in changed if tenant.id not in declaring]
        for tenant_id in [*sorted(declaring), *await asyncio.to_thread(_having_jobs, self._state_dir, others)]:
            await self._guarded(tenant_id, self._recover)

    def _due_now(self) -> Sequence[TenantId]:
        now = self._clock.now()
        return [name for name, due in self._due.items() if due is not None and due <= now]

    async def _rest(self) -> None:
        now = self._clock.now()
        waits = [(due - now).total_seconds() for due in self._due.values() if due is not None]
        # Of a tenant that is suspended a job stays due: that is no reason to look without a pause.
        pause = min([LOOK_SECONDS, *(wait if wait > 0 else 1.0 for wait in waits)])
        sleeping = self._tasks.start(self._clock.sleep(pause), name="rest")
        waking = self._tasks.start(_waited(self._wake), name="wake")
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
        self._wake.clear()

    async def _guarded(self, tenant_id: TenantId, work: Callable[[Tenant], Any]) -> None:
        """One tenant's fault is not the others'."""
        tenant = self._directory.current.tenants.get(tenant_id)
        if tenant is None or tenant.suspended or not tenant.ready:
            return
        try:
            await work(tenant)
        except CarrelError as error:
            self._due[tenant_id] = self._clock.now() + timedelta(seconds=LOOK_SECONDS)
            _log.error("a tenant's jobs cannot be run", tenant=tenant_id, reason=error.message)

    async def _known(self, tenant: Tenant) -> None:
        """What is begun from here on is told apart from what a dead gateway had begun; what is declared is there."""
        # Who asks may hold an older declaration than the one that is in force.
        newest = self._directory.current.tenants.get(tenant.id, tenant)
        if not self._is_known(newest):
            await self._recover(newest)

    def _is_known(self, tenant: Tenant) -> bool:
        known = self._seen.get(tenant.id)
        return known is not None and known[0] is tenant.root and known[1] == tenant.config.cron

    async def _recover(self, tenant: Tenant) -> None:
        alive, now = frozenset(self._running), self._clock.now()
        wanted = [declared_job(tenant.id, name, job, now) for name, job in tenant.config.cron.items()]

        def work(connection: apsw.Connection) -> tuple[Sequence[Run], Sequence[tuple[str, Job]]]:
            book.set_back(connection, now=now)
            return book.interrupt(connection, alive, now=now), book.declare(connection, wanted, now=now)

        interrupted, declared = await self._databases.run(tenant, work)
        self._seen[tenant.id] = tenant.root, tenant.config.cron
        for run in interrupted:
            _log.warning("a job was interrupted", tenant=tenant.id, job=run.job, run=run.id)
        for what, job in declared:
            self._tell(tenant, job, what, {})
        await self._changed(tenant)

    async def _claim(self, tenant: Tenant) -> None:
        now, busy = self._clock.now(), self.busy(tenant)
        if len(busy) >= RUNNING_PER_TENANT:
            self._due[tenant.id] = now + timedelta(seconds=1)
            return

        def work(connection: apsw.Connection) -> Sequence[tuple[Job, Run]]:
            return book.claim(connection, now=now, new_id=lambda: f"run_{os.urandom(12).hex()}", busy=busy)

        for job, run in await self._databases.run(tenant, work):
            self._start(tenant, job, run)
        self._due[tenant.id] = await self._databases.run(tenant, book.next_due)

    async def _changed(self, tenant: Tenant) -> None:
        self._due[tenant.id] = await self._databases.run(tenant, book.next_due)
        self._wake.set()

    # --- running ---

    def _start(self, tenant: Tenant, job: Job, run: Run) -> None:
        self._follow(tenant, job, run, self._tasks.start(self._run(tenant, job, run), name="job"))

    def _follow(self, tenant: Tenant, job: Job, run: Run, task: asyncio.Task[None]) -> None:
        """The run goes on for as long as ``task`` does, or another that took its place."""

        def over(_: object) -> None:
            if self._running[run.id][2] is task:
                del self._running[run.id]

        self._running[run.id] = tenant.id, job.id, task
        task.add_done_callback(over)

    async def _run(self, tenant: Tenant, job: Job, run: Run) -> None:
        snapshot = self._directory.current
        run = run.model_copy(update={"session": job.session or f"s_{run.id.removeprefix('run_')}"})
        self._tell(tenant, job, "started", {"runId": run.id, "sessionId": run.session})
        update: dict[str, Any]
        try:
            as_member = snapshot.tenant(tenant.id).as_member(job.member)
            async with asyncio.timeout(job.timeout_seconds):
                text = await self._speak(as_member, snapshot, job, run)
            update = {"status": "ok", "text": text[:KEPT_TEXT]}
        except TimeoutError:
            update = {"status": "failed", "text": f"It took more than {job.timeout_seconds} s."}
        except CarrelError as error:
            status = "cancelled" if error.code == "turn_cancelled" else "failed"
            update = {"status": status, "text": f"{error.code}: {error.message}"}
        done = run.model_copy(update={**update, "ended": self._clock.now()})
        try:
            await self._finish(tenant, job, done)
        except CarrelError as error:
            _log.error("how a job ended cannot be kept", tenant=tenant.id, job=job.id, reason=error.message)
            if isinstance(error, StorageFailed | Unavailable):
                # Else it would be told as running for as long as this gateway lives.
                self._follow(tenant, job, done, self._tasks.start(self._owe(tenant, job, done), name="end of a job"))
        about = {"runId": run.id, "sessionId": run.session, "status": done.status, "text": done.text[:TOLD_TEXT]}
        self._tell(tenant, job, "finished", about)

    async def _finish(self, tenant: Tenant, job: Job, done: Run) -> None:
        await self._databases.run(tenant, lambda c: book.finish(c, done))
        if job.delete_after_run and job.schedule.kind == "at":
            await self._databases.run(tenant, lambda c: book.remove(c, job.id))

    async def _owe(self, tenant: Tenant, job: Job, done: Run) -> None:
        """Write down how a run ended once the disk takes it."""
        while True:
            await self._clock.sleep(AGAIN_SECONDS)
            try:
                await self._finish(tenant, job, done)
            except (StorageFailed, Unavailable):
                continue
            except CarrelError as error:
                _log.error("how a job ended is not kept", tenant=tenant.id, job=job.id, reason=error.message)
            return

    def _tell(self, tenant: Tenant, job: Job, what: str, more: dict[str, Any]) -> None:
        own = job.member if tenant.config.sandbox.scope == "member" else None
        self._hub.publish(tenant, f"cron.{what}", {"jobId": job.id, "name": job.name, **more}, own=own)


def _sees(tenant: Tenant, job: Job) -> bool:
    return tenant.own is None or job.member == tenant.own


def _require_own(tenant: Tenant, job: Job) -> None:
    if job.declared:
        raise Conflict(
            f"This job is declared, in `cron` of {tenant.id}.yaml or of the tenant's settings: change it there."
        )


def _having_jobs(state_dir: Path, tenants: Sequence[TenantId]) -> Sequence[TenantId]:
    """Those that ever had a job. Only looked at by name: their roots stay closed."""
    return [one for one in tenants if os.path.lexists(state_dir / "tenants" / one / _PATH)]


async def _waited(event: asyncio.Event) -> None:
    await event.wait()
