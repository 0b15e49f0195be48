"""The runner: one command in fresh namespaces or in a worker's, with limits, filters and a clean end.

It is bubblewrap that makes them, or for a mode that says so an OCI runtime; launcher, places and limits are the same.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from carrel.clock import Clock, SystemClock
from carrel.declare.tenant import SandboxConfig
from carrel.errors import SandboxBusy, SandboxUnavailable
from carrel.ids import TenantId
from carrel.sandbox import bwrap, limits, probe, pty
from carrel.sandbox.command import Command, Stop, judge, kept
from carrel.sandbox.delegation import Delegation
from carrel.sandbox.launcher import KEEPS_NOTHING
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.link import Ending, Link
from carrel.sandbox.oci import bundle, runtimes
from carrel.sandbox.protocol import Confinement, EgressGate, Job, KeptSandbox, Measured, Mechanism, Outcome, Pty, Size
from carrel.sandbox.quota import DiskQuotas, tidying, told
from carrel.sandbox.seccomp import denying, filters
from carrel.sandbox.slots import Slots
from carrel.sandbox.usage import Use
from carrel.sandbox.workers import Workers
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot
from carrel.tenancy.userland import Mount, Userland

AT_ONCE: Final = 64
WAIT_SECONDS: Final = 60.0
_PROBE: Final = "_probe"
_GREEDY_BYTES: Final = 64 << 20
"""The limit that the check sees held: it is run at each start, also where there is little memory."""
"""Whose group the probe is in: no tenant's."""
_NOT_KEPT: Final = "This sandbox ended with its command: {}, which runs it, has a kernel of its own, and none is kept."

_log = structlog.get_logger(__name__)


class BwrapSandbox:
    """Runs jobs under bubblewrap. Nothing is kept between two of them but the tenant's workspace, and its workers.

    ``launch_uid`` is for a caller who is root: who the launcher becomes. ``at_once`` is the most of all tenants' runs.
    ``groups`` is the cgroup that was prepared for sandboxes, where there is one; ``service`` the socket of a launcher
    that is a unit of its own, with a cgroup of its own.
    """

    def __init__(
        self,
        *,
        metrics: Metrics | None = None,
        launch_uid: int | None = None,
        at_once: int = AT_ONCE,
        clock: Clock | None = None,
        groups: Delegation | None = None,
        service: Path | None = None,
        measured: Measured = lambda _tenant, _quota, _used: None,
    ) -> None:
        self._filters = filters()
        self._layout = bwrap.Files(filters=len(self._filters))
        self._link = Link(
            files=[*self._filters, *(content for _, content in bwrap.ETC)],
            filters=len(self._filters),
            launch_uid=launch_uid,
            groups=groups.path if groups is not None else "",
            service=service,
        )
        self._tasks = Tasks("sandbox")
        self._slots = Slots(at_once)
        self._disk = DiskQuotas(
            tasks=self._tasks, lives_on=self._lives_on, end=self._end_what_lives_on, measured=measured,
            **({} if groups is None else {"freeze": groups.freeze}),
        )  # fmt: skip
        self._busy: Counter[tuple[TenantId, str]] = Counter()
        self._workers = Workers(link=self._link, clock=clock or SystemClock(), start=self._start_worker)
        self._keeps_nothing: set[str] = set()
        self._ptys: dict[Pty, TenantId] = {}
        self._metrics = metrics
        self._measured = measured
        self._launch_uid = launch_uid

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        """See ``Sandbox.run``."""
        judge(job)
        try:
            outcome = await self._run(tenant, job, on_output)
        except SandboxBusy:
            self._count(tenant, "busy")
            raise
        except SandboxUnavailable:
            self._count(tenant, "unavailable")
            raise
        except asyncio.CancelledError:
            self._count(tenant, "cancelled")
            raise
        self._tell_use(tenant, outcome)
        self._count(tenant, outcome.killed or ("ok" if outcome.exit_code == 0 else "failed"))
        if outcome.killed is not None:
            _log.warning("a limit ended a command", tenant=tenant.id, ending=outcome.killed, seconds=outcome.seconds)
        return outcome

    async def _run(self, tenant: Tenant, job: Job, on_output: Callable[[bytes], None] | None) -> Outcome:
        own = job.limits
        if job.gate is not None:
            await job.gate.prepare()
        async with self._slots.taken(
            tenant.id, own.concurrent, wait=WAIT_SECONDS, weight=own.weight, queued=own.queued
        ):
            standing = await self._disk.admit(tenant)
            job = tidying(job) if standing.over else job
            root = await kept(lambda: tenant.root.directory(job.workspace), TenantRoot.close)
            with self._working_in(tenant, job, root) as stop:
                outcome = await self._run_where_it_is_kept(tenant, job, root, stop, on_output)
            return told(outcome, standing)

    @asynccontextmanager
    async def pty(self, tenant: Tenant, job: Job, size: Size) -> AsyncIterator[Pty]:
        """See ``Sandbox.pty``."""
        judge(job)
        if job.gate is not None:
            await job.gate.prepare()
        standing = await self._disk.admit(tenant)
        job = tidying(job) if standing.over else job
        root = await kept(lambda: tenant.root.directory(job.workspace), TenantRoot.close)
        with self._working_in(tenant, job, root) as stop:
            async with pty.opened(
                self._link, self._start_worker, tenant.id, job, root, size=size, stop=stop, note=standing.note
            ) as opened:
                self._ptys[opened] = tenant.id
                try:
                    yield opened
                finally:
                    del self._ptys[opened]
                    if opened.over():
                        self._tell_use(tenant, await opened.ended())

    @contextmanager
    def _working_in(self, tenant: Tenant, job: Job, root: TenantRoot) -> Iterator[Stop]:
        """Count a command in its workspace ``root``, which is closed at its end; what ends it for the disk's sake."""
        stop = Stop()
        self._busy[tenant.id, job.workspace] += 1
        try:
            with self._disk.watching(tenant, job.workspace, stop):
                yield stop
        finally:
            root.close()
            self._busy[tenant.id, job.workspace] -= 1
            if not self._busy[tenant.id, job.workspace]:
                del self._busy[tenant.id, job.workspace]

    async def _run_where_it_is_kept(
        self, tenant: Tenant, job: Job, root: TenantRoot, stop: Stop, on_output: Callable[[bytes], None] | None
    ) -> Outcome:
        runner = job.confinement.runner
        if job.keep is not None and runner not in self._keeps_nothing:
            try:
                return await self._workers.run(tenant, job, root, stop=stop, on_output=on_output)
            except SandboxUnavailable as error:
                if KEEPS_NOTHING not in error.message:
                    raise
                self._keeps_nothing.add(runner)
        outcome = await self._run_in(tenant.id, root.fd, replace(job, keep=None), on_output, stop=stop)
        return outcome if job.keep is None else replace(outcome, note=_NOT_KEPT.format(runner))

    def kept(self) -> tuple[KeptSandbox, ...]:
        """See ``Sandbox.kept``."""
        return self._workers.all()

    def busy(self, tenant: TenantId, workspace: str) -> bool:
        """See ``Sandbox.busy``."""
        return self._busy[tenant, workspace] > 0

    def template(self, sandbox_id: str) -> Job:
        """See ``Sandbox.template``."""
        return self._workers.template(sandbox_id)

    def log(self, sandbox_id: str) -> bytes:
        """See ``Sandbox.log``."""
        return self._workers.log(sandbox_id)

    async def stop(self, sandbox_id: str) -> None:
        """See ``Sandbox.stop``."""
        await self._workers.stop(sandbox_id)

    async def stop_tenant(self, tenant: TenantId) -> None:
        """See ``Sandbox.stop_tenant``."""
        theirs = [opened for opened, whose in self._ptys.items() if whose == tenant]
        for opened in theirs:
            opened.stop("cancelled")
        await self._workers.stop_tenant(tenant)
        if theirs:
            await asyncio.gather(*(opened.ended() for opened in theirs), return_exceptions=True)

    async def room(self, tenant: Tenant, size: int) -> None:
        """See ``Sandbox.room``."""
        await self._disk.room(tenant, size)

    async def disk(self, tenant: Tenant) -> Use:
        """See ``Sandbox.disk``."""
        return await self._disk.use(tenant)

    @property
    def controllers(self) -> frozenset[str] | None:
        """The cgroup controllers that hold sandboxes, None where there is no group or no launcher yet."""
        return self._link.controllers

    def mechanisms(self) -> tuple[Mechanism, ...]:
        """See ``Sandbox.mechanisms``."""
        return limits.mechanisms(self._link.controllers)

    async def check(self, confinement: Confinement | None = None) -> str | None:
        """See ``Sandbox.check``: a probe of our own is run in a real sandbox and tells what it found there."""
        try:
            path, workspace = await asyncio.to_thread(_empty_directory, self._launch_uid)
        except OSError as error:
            return f"No directory can be made to try the sandbox in: {error.strerror}."
        try:
            job = _probe_job(confinement or Confinement())
            outcome = await self._run_in(_PROBE, workspace, job, None)
            greedy = await self._run_in(_PROBE, workspace, _greedy(job), None)
        except SandboxUnavailable as error:
            return " ".join(error.message.split())
        finally:
            os.close(workspace)
            await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        try:
            found = json.loads(outcome.stdout)
        except ValueError:
            text = outcome.stderr.decode("utf-8", "replace").strip()[-500:]
            return f"The sandbox's own probe failed in it: {text or outcome.exit_code}."
        return " ".join([*found, *json.loads(greedy.stdout or b"[]")]) or None

    async def close(self) -> None:
        """See ``Sandbox.close``."""
        await self._link.close()
        self._workers.close()
        await self._tasks.close()

    async def _run_in(
        self,
        tenant: str,
        workspace: int,
        job: Job,
        on_output: Callable[[bytes], None] | None,
        *,
        stop: "Stop | None" = None,
    ) -> Outcome:
        gates: list[Callable[[], None]] = []

        async def begin(handed: list[int]) -> tuple[int, "asyncio.Future[Ending]"]:
            number, ending, end_gate = await self._begun(workspace, job, handed)
            gates.append(end_gate)
            return number, ending

        try:
            order = await self._order(tenant, job, wall_seconds=job.limits.wall_seconds)
            return await Command(self._link, workspace, job, on_output=on_output, stop=stop).run(begin, order)
        finally:
            for end_gate in gates:
                end_gate()

    async def _start_worker(
        self, tenant: TenantId, workspace: int, job: Job, pipes: list[int]
    ) -> tuple[int, "asyncio.Future[Ending]", Callable[[], None]]:
        order = memory("order", json.dumps(await self._order(tenant, job, wall_seconds=None)).encode())
        try:
            return await self._begun(workspace, job, [order, *pipes])
        finally:
            os.close(order)

    async def _order(self, tenant: str, job: Job, *, wall_seconds: float | None) -> dict[str, object]:
        if job.confinement.runtime == "oci":
            runtime = runtimes.find(job.confinement.runtime_class, job.confinement.engine)
            await self._link.ready()
            uid = self._launch_uid if self._launch_uid is not None else os.geteuid()
            grouped = "memory" in (self._link.controllers or ())
            return {
                "oci": bundle.order(job, self._layout, runtime, uid=uid, grouped=grouped),
                # The runtime sets them, on what is inside alone.
                "rlimits": {},
                "wall_seconds": wall_seconds,
                "gate": job.gate is not None,
                "group": limits.group(tenant, job),
            }
        return {
            "args": bwrap.arguments(job, self._layout),
            "argv": job.argv,
            "rlimits": bwrap.rlimits(job),
            "wall_seconds": wall_seconds,
            "gate": job.gate is not None,
            "group": limits.group(tenant, job),
        }

    async def _begun(
        self, workspace: int, job: Job, handed: list[int]
    ) -> tuple[int, "asyncio.Future[Ending]", Callable[[], None]]:
        """Start a sandbox; its number, a future of its end, and what ends its gate."""
        gate = job.gate
        serving: list[asyncio.Task[None]] = []

        def opened(listener: socket.socket) -> None:
            if gate is not None:
                serving.append(self._tasks.start(_served(gate, listener), name="gate"))

        def end_gate() -> None:
            for task in serving:
                task.cancel()

        with ExitStack() as files:
            more = []
            own = [*(gate.files.values() if gate is not None else ())]
            if job.confinement.runtime == "bwrap" and job.confinement.refusals:
                own.append(denying(job.confinement.refusals))
            for content in own:
                more.append(memory("file", content))
                files.callback(os.close, more[-1])
            number, ending = await self._link.run(
                [*handed, workspace, *more], on_gate=opened if gate is not None else None
            )
        return number, ending, end_gate

    def _lives_on(self, tenant: TenantId) -> bool:
        return any(one.tenant == tenant for one in self._workers.all())

    def _end_what_lives_on(self, tenant: TenantId) -> None:
        self._tasks.start(self._workers.stop_tenant(tenant), name="over quota")

    def _tell_use(self, tenant: Tenant, outcome: Outcome) -> None:
        for quota, used in outcome.used().items():
            self._measured(tenant, quota, used)

    def _count(self, tenant: Tenant, ending: str) -> None:
        if self._metrics is not None:
            self._metrics.sandbox(tenant.id, ending=ending)


async def _served(gate: EgressGate, listener: socket.socket) -> None:
    with listener:
        await gate.serve(listener)


def _empty_directory(uid: int | None) -> tuple[str, int]:
    """A new empty directory that the launcher's uid may write: its path and a descriptor."""
    path = tempfile.mkdtemp(prefix="carrel-check-")
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if uid is not None:
        os.fchown(fd, uid, uid)
    return path, fd


def _probe_job(confinement: Confinement) -> Job:
    """Our own probe, run by this interpreter: only trusted code sees what it is given of the host."""
    wanted = ["/usr", "/lib", "/lib64", "/nix/store", sys.base_prefix]
    found = [path for path in dict.fromkeys(wanted) if Path(path).is_dir()]
    top = [path for path in found if not any(path != other and Path(path).is_relative_to(other) for other in found)]
    python = os.path.realpath(sys.executable)
    userland = Userland(
        "host", "probe", tuple(Mount(path, path) for path in top), "/usr/bin", os.path.realpath("/bin/sh")
    )
    # An OCI runtime puts all rules into one filter.
    expected = (
        (str(runtimes.find(confinement.runtime_class, confinement.engine).uid), "1")
        if confinement.runtime == "oci"
        else ()
    )
    return Job(
        (python, "-I", "-S", "-B", "-", *expected), SandboxConfig(wall_seconds=20.0), userland,
        stdin=Path(probe.__file__).read_bytes(), confinement=confinement,
    )  # fmt: skip


def _greedy(job: Job) -> Job:
    """The probe's job as one that takes more memory than it may: it says nothing where the limit holds."""
    python, *options = job.argv[: job.argv.index("-") + 1]
    limits = job.limits
    if job.confinement.runtime == "bwrap":
        # A container whose runtime has a kernel of its own cannot be held to so little.
        limits = limits.model_copy(update={"memory_bytes": _GREEDY_BYTES})
    return replace(job, limits=limits, argv=(python, *options, "memory", str(limits.memory_bytes)))
