"""Workers: sandboxes that are kept between commands, so that what runs in the background lives on.

A worker is a sandbox that only waits, and that commands are sent into. It is stopped when it has not been used for its
idle time, when its tenant goes, or by an operator; the next command starts it anew, with the workspace as it was.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import uuid4
from weakref import WeakValueDictionary

import structlog

from carrel.clock import Clock
from carrel.errors import NotFound, SandboxBusy, SandboxUnavailable
from carrel.ids import TenantId
from carrel.sandbox.asleep import START_SECONDS, Asleep, Start, entering, put_to_sleep
from carrel.sandbox.command import Command, Stop
from carrel.sandbox.link import Link
from carrel.sandbox.protocol import Job, KeptSandbox, Outcome
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

ENDED_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)

Key = tuple[TenantId, str, str]
"""Whose a worker is, what it is called, and what runs it: nobody's command is run by less than its mode says."""


@dataclass(eq=False)
class Worker:
    """One that runs. ``made_of`` tells whether another job could use it; ``running`` counts commands in it now.

    ``over``: it was told to end, and has not yet.
    """

    id: str
    tenant: TenantId
    key: Key
    job: Job
    made_of: Hashable
    began: datetime
    sandbox: Asleep
    used: datetime
    commands: int = 0
    running: int = 0
    timer: asyncio.TimerHandle | None = None
    over: bool = False


class Workers:
    """All workers of one launcher; ``start`` makes the sandbox that each of them is."""

    def __init__(self, *, link: Link, clock: Clock, start: Start) -> None:
        self._link = link
        self._clock = clock
        self._start = start
        self._workers: dict[Key, Worker] = {}
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def run(
        self, tenant: Tenant, job: Job, root: TenantRoot, *, stop: Stop, on_output: Callable[[bytes], None] | None
    ) -> Outcome:
        """Run one job in the worker called ``job.keep``, which is started where it does not run."""
        for _ in range(2):
            worker, note = await self._taken(tenant, job, root)
            try:
                outcome = await self._run_in(worker, job, root, stop, on_output)
            except SandboxUnavailable:
                # Nothing was run. It may have ended before it was heard of: then another is begun.
                if not await self._ends(worker):
                    raise
                continue
            finally:
                worker.running -= 1
                worker.used = self._clock.now()
                self._rest(worker, job.limits.keep_idle_seconds)
            return replace(outcome, note=note) if note else outcome
        raise SandboxUnavailable("The kept sandbox ended twice before a command could be run in it. Try again.")

    async def _taken(self, tenant: Tenant, job: Job, root: TenantRoot) -> tuple[Worker, str]:
        """The worker to run ``job`` in, counted as in use, and what there is to say about it."""
        key = (tenant.id, job.keep or "", job.confinement.runner)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            worker, note = await self._usable(key, tenant, job, root)
            await self._followed(worker, job)
            worker.running += 1
            worker.commands += 1
            if worker.timer is not None:
                worker.timer.cancel()
        return worker, note

    async def _ends(self, worker: Worker) -> bool:
        """Whether it has ended, or is told to have within a moment."""
        await asyncio.wait([worker.sandbox.ending], timeout=ENDED_SECONDS)
        return worker.sandbox.ending.done()

    def all(self) -> tuple[KeptSandbox, ...]:
        """Those that run."""
        return tuple(
            KeptSandbox(
                id=worker.id, tenant=worker.tenant, name=worker.key[1], began=worker.began, used=worker.used,
                commands=worker.commands, running=worker.running,
            )
            for worker in self._workers.values()
        )  # fmt: skip

    def template(self, sandbox_id: str) -> Job:
        """What one was started for, to make a further command of; raises NotFound."""
        return self._of(sandbox_id).job

    def log(self, sandbox_id: str) -> bytes:
        """The last of what background processes in it wrote; raises NotFound."""
        return self._of(sandbox_id).sandbox.log.text()

    async def stop(self, sandbox_id: str) -> None:
        """End one with all that runs in it; raises NotFound."""
        await self._stopped(self._of(sandbox_id))

    async def stop_tenant(self, tenant: TenantId) -> None:
        """End all of a tenant's."""
        await asyncio.gather(*(self._stopped(one) for one in list(self._workers.values()) if one.tenant == tenant))

    def close(self) -> None:
        """Give everything back; the launcher's end is theirs."""
        for worker in list(self._workers.values()):
            self._forget(worker)

    def _of(self, sandbox_id: str) -> Worker:
        for worker in self._workers.values():
            if worker.id == sandbox_id:
                return worker
        raise NotFound("No such sandbox runs.")

    async def _usable(self, key: Key, tenant: Tenant, job: Job, root: TenantRoot) -> tuple[Worker, str]:
        """The worker to use, and what there is to say about it."""
        worker = self._workers.get(key)
        note = ""
        if worker is not None and worker.over:
            await asyncio.wait([worker.sandbox.ending], timeout=START_SECONDS)
            self._forget(worker)
            worker = None
        if worker is not None and worker.made_of != self._made_of(job):
            left = await self._link.count(worker.sandbox.number) if not worker.running else 1
            if left != 0:
                return worker, (
                    "This sandbox has the packages and limits of when it was started, for something still runs in it. "
                    "It takes the new ones when that has ended."
                )
            await self._stopped(worker)
            worker, note = None, "The sandbox was started anew, with other packages or limits than before."
        if worker is None:
            worker = await self._begun(key, tenant, job, root)
        return worker, note

    async def _begun(self, key: Key, tenant: Tenant, job: Job, root: TenantRoot) -> Worker:
        mine = [one for one in self._workers.values() if one.tenant == tenant.id]
        if len(mine) >= job.limits.concurrent:
            resting = [one for one in mine if not one.running]
            if not resting:
                raise SandboxBusy(
                    f"{len(mine)} sandboxes of this tenant are kept and all are in use (sandbox.concurrent). "
                    "Try again later."
                )
            await self._stopped(min(resting, key=lambda one: one.used))
        sandbox = await put_to_sleep(self._link, self._start, tenant.id, job, root)
        now = self._clock.now()
        worker = Worker(f"sb_{uuid4().hex[:12]}", tenant.id, key, sandbox.job, self._made_of(job), now, sandbox, now)
        self._workers[key] = worker
        sandbox.ending.add_done_callback(lambda _: self._forget(worker))
        return worker

    async def _run_in(
        self, worker: Worker, job: Job, root: TenantRoot, stop: Stop, on_output: Callable[[bytes], None] | None
    ) -> Outcome:
        # Each knows itself to the gate; a sandbox that was started without a way out has none, whoever comes.
        gate = None if worker.job.gate is None else job.gate or worker.job.gate
        order = entering(worker.tenant, job, gate=gate)
        command = Command(self._link, root.fd, job, on_output=on_output, stop=stop)
        number, log = worker.sandbox.number, worker.sandbox.log
        return await command.run(lambda handed: self._link.enter(number, handed), order, stays=log.take)

    async def _followed(self, worker: Worker, job: Job) -> None:
        """Tell the gate for whom it is from here on, before anything of theirs runs."""
        if worker.job.gate is None or job.gate is None:
            return
        alone = worker.running == 0 and await self._link.count(worker.sandbox.number) == 0
        worker.job.gate.follow(job.gate, alone=alone)

    def _made_of(self, job: Job) -> Hashable:
        """What of a job is built into its sandbox: all else each command brings along."""
        limits = job.limits
        built_in = job.userland.key, limits.tmp_bytes, job.confinement.deny_calls, job.confinement.answers
        return (
            built_in if self._link.controllers is None else (*built_in, limits.memory_bytes, limits.pids, limits.cpus)
        )

    def _rest(self, worker: Worker, seconds: float) -> None:
        """Stop it after its idle time, where nothing is run in it until then."""
        if worker.running or self._workers.get(worker.key) is not worker:
            return
        if worker.timer is not None:
            worker.timer.cancel()
        worker.timer = asyncio.get_running_loop().call_later(seconds, self._end, worker)

    def _end(self, worker: Worker) -> None:
        """Tell it to end: from here on no command goes in."""
        worker.over = True
        self._link.kill(worker.sandbox.number)

    async def _stopped(self, worker: Worker) -> None:
        self._end(worker)
        await asyncio.wait([worker.sandbox.ending], timeout=START_SECONDS)

    def _forget(self, worker: Worker) -> None:
        key = worker.key
        if self._workers.get(key) is worker:
            del self._workers[key]
        if worker.timer is not None:
            worker.timer.cancel()
        worker.sandbox.close()
