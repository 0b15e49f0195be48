"""Keeps what is in force at what is declared: loads, watches, publishes snapshots, and says how it went.

A change is taken in when the file system says so, and every few seconds by comparing signatures, so that a missed
event costs seconds and not the change. What looks like a write half done (a file gone, emptied, or cut to a beginning
of what it was) is looked at twice before it counts; see docs/adr/0032.
"""

import asyncio
import math
import resource
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

import structlog
import watchfiles

from carrel.clock import Clock
from carrel.declare.directory import DirectoryUnreadable, counts
from carrel.declare.load import load_tree
from carrel.errors import CarrelError, NotFound, Unavailable
from carrel.ids import TenantId
from carrel.plan.plan import Action, Observed, Plan, compute_plan
from carrel.reconcile.collecting import many_come_in
from carrel.reconcile.final_archive import FinalArchive
from carrel.reconcile.halfway import Halfway
from carrel.reconcile.outlook import Environment
from carrel.reconcile.patrol import TokenFiles
from carrel.reconcile.record import Record
from carrel.reconcile.recorder import Recorder, reconciling
from carrel.reconcile.remover import FinalBackup, Remover
from carrel.reconcile.rows import Row
from carrel.reconcile.status import Applied, Reconciled, ReconcileStatus, TenantBrief, TenantStatus, Watching
from carrel.reconcile.telling import Telling, house_status
from carrel.reconcile.world import World
from carrel.store.sqlite import Worker
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.tenancy.overlay import StateOverlays
from carrel.wire.control import Actor

_LISTENER_SECONDS = 10.0
_LOOKED_AT: Final = 64
_MANY: Final = 100
_ROUND_PASSES: Final = 30
"""All tenants' state is looked at closely once in so many passes, and at least so many tenants in one."""
_log = structlog.get_logger(__name__)


class Environments(Protocol):
    """Gives tenants their userland, off the request path."""

    def request(self, packages: frozenset[str]) -> object:
        """Have an environment of these packages built, where it is not there yet. Returns at once."""
        ...

    def retry(self, packages: frozenset[str] | None = None) -> None:
        """Try once more what failed, of these packages or of all. Returns at once."""
        ...


class EnvironmentState(Protocol):
    """Where one set of packages stands."""

    @property
    def packages(self) -> tuple[str, ...]: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Listener(Protocol):
    """Acts on a change that came into force: ends a suspended tenant's streams, say."""

    async def __call__(self, applied: Applied) -> None: ...


class Reconciler:
    """One for a gateway. ``load`` it, then run ``watch`` as a task; ``close`` it last.

    ``here`` says whose tenants are this gateway's, where several share the declarations.
    ``poll_seconds`` is the least time between two comparisons of signatures; a tree that takes long to compare is
    compared less often, so that it costs 2 % of a processor at most. ``backup`` keeps what removed tenants had before
    it is deleted, after ``release`` has let go of what is open of theirs.
    """

    def __init__(
        self,
        *,
        tenants_dir: Path,
        state_dir: Path,
        directory: Directory,
        clock: Clock,
        tasks: Tasks,
        on_change: Sequence[Listener] = (),
        environments: Environments | None = None,
        states: Callable[[], Sequence[EnvironmentState]] | None = None,
        tokens: TokenFiles | None = None,
        backup: FinalBackup | None = None,
        release: Callable[[Tenant], Awaitable[None]] | None = None,
        audit: Recorder | None = None,
        metrics: Metrics | None = None,
        version: str = "",
        poll_seconds: float = 2.0,
        here: Callable[[TenantId], bool] | None = None,
    ) -> None:
        self._tenants_dir = tenants_dir
        self._state_dir = state_dir
        self._directory = directory
        self._clock = clock
        self._tasks = tasks
        self._on_change = tuple(on_change)
        self._environments = environments
        self._states = states
        self._tokens = tokens
        self._poll_seconds = poll_seconds
        self._here = here
        self._worker = Worker("reconcile")
        self._remover = Remover(
            worker=self._worker, backup=backup or FinalArchive(state_dir, clock), release=release, audit=audit
        )
        self._audit = audit
        self._removing: asyncio.Task[None] | None = None
        self._telling = Telling(
            tenants_dir=tenants_dir, state_dir=state_dir, clock=clock, metrics=metrics, version=version
        )
        self._retry_seconds = math.inf
        self._lock = asyncio.Lock()
        self._world: World | None = None
        self._record: Record | None = None
        self._halfway = Halfway(clock)
        self._wake = asyncio.Event()
        self._noticed: set[str] = set()
        self._watching: Watching = "no"
        self._watched: tuple[int, int] | None = None
        self._moved = threading.Event()
        self._unreadable: str | None = None
        self._last_pass: datetime | None = None
        self._last_seconds = 0.0
        self._requested: set[frozenset[str]] = set()

    # --- the first load ---

    async def load(self) -> None:
        """Bring everything declared into force. Broken tenants are their own affair.

        Raises DirectoryUnreadable, and DeclarationInvalid where the operator's files are broken and never were good.
        """
        _raise_descriptor_limit()
        async with self._lock:
            started = self._clock.monotonic()
            snapshot, plan = await self._worker.run(self._first_load)
            told = self._publish(snapshot, plan, started)
            await self._tell_house()
        await self._heard(told)
        self._tasks.start(self._remover.sweep(self.world), name="sweep")

    def _first_load(self) -> tuple[Snapshot, Plan]:
        self._record = Record.open(self._state_dir, self._clock)
        self._world = World(self._tenants_dir, self._state_dir, self._record, clock=self._clock, here=self._here)
        self._world.patrol.tokens = self._tokens
        with many_come_in():
            return self._world.start()

    @property
    def world(self) -> World:
        """What is declared and in force; raises before the first load."""
        if self._world is None:
            raise CarrelError("Nothing is declared yet: the gateway is still starting.")
        return self._world

    # --- what came into force ---

    def _publish(
        self, snapshot: Snapshot, plan: Plan, started: float, *, renewed: bool = False
    ) -> list[asyncio.Task[None]]:
        """Swap the snapshot in and tell the listeners; what they do goes on in the tasks that this gives."""
        previous = self._directory.current if self._last_pass is not None else None
        self._last_pass = self._clock.now()
        self._last_seconds = self._clock.monotonic() - started
        _report_loss(plan)
        if previous is not None and snapshot.revision == previous.revision and plan.is_empty:
            if renewed:
                self._directory.publish(snapshot)
            return []
        self._directory.publish(snapshot)
        _report(plan, first=previous is None)
        self._request_environments(snapshot, plan)
        applied = Applied(snapshot, previous, plan)
        return [self._tasks.start(self._tell(listener, applied), name="listener") for listener in self._on_change]

    @staticmethod
    async def _heard(told: list[asyncio.Task[None]]) -> None:
        if told:
            await asyncio.wait(told, timeout=_LISTENER_SECONDS)

    @staticmethod
    async def _tell(listener: Listener, applied: Applied) -> None:
        await listener(applied)

    def listen(self, listener: Listener) -> None:
        """Tell ``listener`` of changes too, from now on."""
        self._on_change = (*self._on_change, listener)

    def _request_environments(self, snapshot: Snapshot, plan: Plan) -> None:
        if self._environments is None:
            return
        tenants: Iterable[Tenant | None] = snapshot.tenants.values()
        if not plan.operator_changes and self._requested:
            tenants = (snapshot.tenants.get(TenantId(action.tenant)) for action in plan.actions)
        sets = {one.config.packages for one in tenants if one is not None and not one.suspended}
        for packages in {frozenset(names) for names in sets} - self._requested:
            self._requested.add(packages)
            self._environments.request(packages)

    # --- watching ---

    async def watch(self) -> None:
        """Follow the directory for good; cancel it to stop."""
        self._tasks.start(self._listen(), name="inotify")
        next_poll = self._clock.monotonic()
        while True:
            wait = max(0.0, min(next_poll - self._clock.monotonic(), self._halfway.wait(), self._retry_seconds))
            names = await self._noticed_within(wait)
            polls = self._clock.monotonic() >= next_poll
            if not polls and not names and not self._halfway.due() and self._retry_seconds > wait:
                continue
            began = self._clock.monotonic()
            await self._pass(None if polls else names, at_once=False)
            if polls:
                self._delete_due()
                spent = self._clock.monotonic() - began
                next_poll = self._clock.monotonic() + max(self._poll_seconds, 50 * spent)

    async def _noticed_within(self, seconds: float) -> set[str]:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return set()
        self._wake.clear()
        names, self._noticed = self._noticed, set()
        return names

    async def _listen(self) -> None:
        """Notice files by inotify; where that fails, polling goes on alone and this tries again."""
        while True:
            self._watched, self._moved = _identity(self._tenants_dir), threading.Event()
            try:
                self._watching = "inotify"
                changes = watchfiles.watch(
                    self._tenants_dir,
                    watch_filter=None,
                    debounce=10,
                    # Between two looks it sleeps so long: each look takes the interpreter's lock from the event loop.
                    step=5,
                    recursive=False,
                    stop_event=self._moved,
                    raise_interrupt=False,
                )
                # `awatch` does the same, and loads another library's loop, streams and sockets for it.
                while (found := await asyncio.to_thread(next, changes, None)) is not None:
                    self._noticed.update(name for _, path in found if counts(name := Path(path).name))
                    if self._noticed:
                        self._wake.set()
            except asyncio.CancelledError:
                self._moved.set()
                raise
            except (OSError, RuntimeError) as error:
                _log.warning("files are not watched, only compared", reason=str(error))
            if not self._moved.is_set():
                self._watching = "polling"
                await self._clock.sleep(max(self._poll_seconds, 1.0))

    async def _pass(self, names: set[str] | None, *, at_once: bool) -> Plan:
        """One look at ``names``, or at everything. It goes on to its end also where who asked for it is cancelled."""
        work = self._tasks.start(self._whole_pass(names, at_once=at_once), name="pass")
        done = await asyncio.shield(work)
        if isinstance(done, CarrelError):
            if at_once:
                raise done
            return Plan(problems=(done.message,))
        return done

    async def _whole_pass(self, names: set[str] | None, *, at_once: bool) -> Plan | CarrelError:
        async with self._lock:
            started = self._clock.monotonic()
            environments = self._environment_states()
            try:
                found = await self._worker.run(lambda: self._take_in(names, environments, at_once=at_once))
            except DirectoryUnreadable as error:
                if self._unreadable is None:
                    _log.error("tenants.d cannot be read; all stays as it was", reason=error.message)
                self._unreadable = error.message
                await self._tell_house(failed=True)
                return error
            except CarrelError as error:
                _log.error("what is declared could not be taken in; it is tried again", reason=error.message)
                await self._tell_house(failed=True)
                return error
            self._unreadable = None
            if found is None:
                return Plan()
            snapshot, plan, renewed = found
            told = self._publish(snapshot, plan, started, renewed=renewed)
            await self._tell_house()
        await self._heard(told)
        return plan

    def _take_in(
        self, names: set[str] | None, environments: dict[frozenset[str], Environment], *, at_once: bool
    ) -> tuple[Snapshot, Plan, bool] | None:
        world = self.world
        if names is None and _identity(self._tenants_dir) != self._watched:
            self._moved.set()
        changed = world.changed() if names is None else names
        changed = set(changed) | self._halfway.take_due()
        if at_once:
            self._halfway.clear()
        else:
            changed = self._halfway.settled(changed, world.loader)
        world.see_environments(environments)
        if not changed and names is not None and not world.attempts.due():
            self._retry_seconds = world.attempts.wait()
            return None
        with many_come_in() if len(changed) > _MANY else nullcontext():
            snapshot, plan = world.refresh(changed)
        renewed = False
        if names is None:
            looked = world.inspect(
                world.patrol.due(world.tenants, max(_LOOKED_AT, len(world.tenants) // _ROUND_PASSES))
            )
            if looked:
                world.flush()
                snapshot, renewed = world.snapshot(), True
        self._retry_seconds = world.attempts.wait()
        return snapshot, plan, renewed

    def _environment_states(self) -> dict[frozenset[str], Environment]:
        found: dict[frozenset[str], Environment] = {}
        for one in self._states() if self._states is not None else ():
            match one.state:
                case "building" | "failed" as state:
                    found[frozenset(one.packages)] = state, one.reason
        return found

    async def _tell_house(self, *, failed: bool = False) -> None:
        """See the gateway's own conditions anew, and have them in the metrics and the file. The lock is held."""
        seconds, house = self._last_seconds, self._house

        def tell() -> Callable[[], None] | None:
            self._telling.passed(self.world, unreadable=self._unreadable, seconds=seconds, failed=failed)
            return self._telling.write(self.world, house())

        write = await self._worker.run(tell)
        if write is not None:
            # Not in the reconciler's thread: the next change does not wait for ten thousand lines.
            self._tasks.start(asyncio.to_thread(write), name="status file")

    def _house(self) -> ReconcileStatus:
        return house_status(
            self.world, tenants_dir=self._tenants_dir, watching=self._watching, unreadable=self._unreadable,
            last=(self._last_pass, self._last_seconds),
        )  # fmt: skip

    # --- the end of removed tenants ---

    def _delete_due(self) -> None:
        """Go on with what is to be deleted, in a task of its own: a backup may take long."""
        if self._removing is None or self._removing.done():
            self._removing = self._tasks.start(self._delete(), name="deletions")

    async def _delete(self) -> None:
        for tenant in await self._worker.run(self.world.due):
            if await self._remover.delete(self.world, tenant, self._lock):
                async with self._lock:
                    plan = Plan(actions=(Action(tenant, "delete"),))
                    snapshot = await self._worker.run(self.world.snapshot)
                    told = self._publish(snapshot, plan, self._clock.monotonic())
                    await self._tell_house()
                await self._heard(told)

    # --- asked for ---

    async def reconcile_now(
        self, *, by: Actor | None = None, tenant: TenantId | None = None, confirm: str | None = None
    ) -> Reconciled:
        """Read what changed and bring it into force before this returns, what failed before too.

        With ``tenant``, that one is told of alone. ``confirm`` is the word for removals that wait for it. Raises
        DirectoryUnreadable, NotFound where nothing is known of the tenant, Conflict where ``confirm`` is not the word.
        """
        if by is not None:
            _log.info("reconcile asked for", by=by.name, request_id=by.request_id, tenant=tenant)
        async with reconciling(self._audit, by, tenant, confirm):
            return await self._now(tenant, confirm)

    async def _now(self, tenant: TenantId | None, confirm: str | None) -> Reconciled:
        await self._worker.run(lambda: self.world.hurry(tenant))
        held = None if tenant is None else self.world.tenant(tenant)
        if self._environments is not None and (tenant is None or held is not None):
            self._environments.retry(None if held is None else frozenset(held.config.packages))
        if tenant is not None:
            await self._worker.run(lambda: self.world.patrol.suspect(tenant))
        plan = await self._pass(None, at_once=True)
        if confirm is not None:
            plan = await self._confirm(confirm)
        if tenant is None:
            self._delete_due()
        async with self._lock:
            tenants = await self._worker.run(lambda: self._outcome(plan, tenant))
        actions = plan.actions if tenant is None else tuple(a for a in plan.actions if a.tenant == tenant)
        return Reconciled(
            plan.operator_changes, actions, plan.problems, plan.confirm, plan.drift, plan.operators_broken, tenants
        )

    async def _confirm(self, word: str) -> Plan:
        async with self._lock:
            started = self._clock.monotonic()
            snapshot, plan = await self._worker.run(lambda: self.world.confirm(word))
            told = self._publish(snapshot, plan, started)
            await self._tell_house()
        await self._heard(told)
        return plan

    def _outcome(self, plan: Plan, tenant: TenantId | None) -> tuple[TenantStatus, ...]:
        world = self.world
        if tenant is not None:
            if world.tenant(tenant) is None:
                raise NotFound(f"Nothing is known of a tenant {tenant}: there is no {tenant}.yaml.")
            return (world.status(tenant),)
        told = {TenantId(action.tenant) for action in plan.actions if action.verb != "unchanged"}
        told.update(map(TenantId, world.record.standing.unwell()))
        return tuple(world.status(one) for one in sorted(told) if world.tenant(one) is not None)

    async def order(self, tenant: TenantId, *, removal: bool) -> None:
        """A person removes this very tenant, or after all does not: it counts for no loss that needs a word."""
        await self._worker.run(lambda: self.world.order(tenant, removal=removal))

    async def purge(self, tenant: TenantId) -> None:
        """Have a removed tenant deleted now, after its final backup, and wait. Raises Conflict, Unavailable."""
        await self._worker.run(lambda: self.world.hasten(tenant))
        if self._removing is not None:
            await asyncio.wait([self._removing])
        self._delete_due()
        if self._removing is not None:
            await asyncio.wait([self._removing])
        if await self._worker.run(lambda: self.world.tenant(tenant)) is not None:
            raise Unavailable(f"{tenant} is suspended and not deleted yet: `carrel status {tenant}` says why.")

    async def move_to(self, directory: Path, digests: Mapping[str, str] | None = None) -> Plan:
        """Follow ``directory`` from now on, and bring what it declares into force; raises DirectoryUnreadable.

        ``digests`` are the SHA-256 of files that are known to be there: such as were read already are not read again.
        """
        async with self._lock:
            self._tenants_dir = directory
            await self._worker.run(lambda: self.world.loader.move_to(directory, digests or {}))
            self._moved.set()
        return await self._pass(None, at_once=True)

    async def settled(self, *, timeout: float = 10.0) -> Snapshot:  # noqa: ASYNC109 - the callers' deadline
        """The snapshot that holds everything written before this call; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._pass(None, at_once=True)
        return self._directory.current

    async def see_uncommitted(self, names: Collection[str]) -> None:
        """Tell from now on that these declarations have changes which are in no commit."""
        async with self._lock:
            self.world.patrol.uncommitted = frozenset(names)
            await self._tell_house()

    async def rest(self, tenant: TenantId, why: str) -> None:
        """Let nothing run for a tenant until `wake`; returns when the listeners acted on it. See `World.rest`."""
        await self._changed(lambda: self.world.rest(tenant, why))

    async def wake(self, tenant: TenantId) -> None:
        """Bring a tenant back that rests, with everything of it opened anew."""
        await self._changed(lambda: self.world.wake(tenant))

    async def _changed(self, work: Callable[[], tuple[Snapshot, Plan]]) -> None:
        async with self._lock:
            started = self._clock.monotonic()
            snapshot, plan = await self._worker.run(work)
            told = self._publish(snapshot, plan, started)
        await self._heard(told)

    async def plan(self, directory: Path | None = None) -> Plan:
        """What bringing ``directory`` (by default the gateway's own) into force would change now."""
        path = directory if directory is not None else self._tenants_dir
        async with self._lock:
            overlays = StateOverlays(self._state_dir)

            def compute() -> Plan:
                self.world.inspect(list(self.world.tenants), mends=False)
                return compute_plan(load_tree(path, overlays=overlays, here=self._here), self.world.observed())

            return await self._worker.run(compute)

    async def observed(self) -> Observed:
        """What is in force, to hold a plan against elsewhere."""
        async with self._lock:
            return await self._worker.run(self.world.observed)

    async def status(self) -> ReconcileStatus:
        """How everything stands."""
        house, rows = await self._seen()
        return await asyncio.to_thread(lambda: replace(house, tenants=tuple(row.status() for row in rows)))

    async def briefly(self) -> tuple[ReconcileStatus, tuple[TenantBrief, ...]]:
        """The same, and of tenants what a list shows."""
        house, rows = await self._seen()
        return house, await asyncio.to_thread(lambda: tuple(row.brief() for row in rows))

    async def _seen(self) -> tuple[ReconcileStatus, list[Row]]:
        async with self._lock:
            return await self._worker.run(lambda: (self._house(), self.world.rows()))

    async def tenant_status(self, tenant: TenantId) -> TenantStatus:
        """How one tenant stands, its state looked at now; raises NotFound."""

        def look() -> TenantStatus:
            if self.world.tenant(tenant) is None:
                raise NotFound("No such tenant.")
            self.world.inspect([tenant], mends=False)
            return self.world.status(tenant)

        async with self._lock:
            return await self._worker.run(look)

    async def close(self) -> None:
        """Close the record and end the thread. Cancel ``watch`` first."""
        async with self._lock:
            if self._record is not None:
                if self._last_pass is not None:
                    write = await self._worker.run(lambda: self._telling.write(self.world, self._house(), now=True))
                    if write is not None:
                        await asyncio.to_thread(write)
                await self._worker.run(self._record.close)
        await asyncio.to_thread(self._worker.close)


def _identity(path: Path) -> tuple[int, int] | None:
    """Which directory is at ``path``: a watch stays with the old one where another is put in its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _report(plan: Plan, *, first: bool) -> None:
    """One line for each tenant that changed or is broken; at the first load one for all, and those that are broken."""
    for problem in plan.problems:
        _log.warning("declaration", problem=problem)
    changed = [action for action in plan.actions if action.verb not in _UNTOLD and not first]
    if len(changed) > _TOLD_ONE_BY_ONE:
        # A push may change thousands: a line for each would hold up every stream.
        counts = {verb: plan.count(verb) for verb in {action.verb for action in changed}}
        _log.info("many tenants changed", **counts, some=[action.tenant for action in changed[:_TOLD_ONE_BY_ONE]])
        changed = []
    for action in plan.actions:
        if action.verb == "broken":
            _log.warning("tenant is broken and stays as it was", tenant=action.tenant, problems=list(action.problems))
    for action in changed:
        _log.info("tenant changed", tenant=action.tenant, what=action.verb, keys=[c.path for c in action.changes])
    for file in plan.operator_changes:
        _log.info("operator's file in force", file=file)
    if first:
        _log.info("declarations loaded", tenants=len(plan.actions), broken=plan.count("broken"))


_TOLD_ONE_BY_ONE: Final = 50
_UNTOLD: Final = ("unchanged", "broken", "hold", "refuse")
"""What has no line of its own, or another one."""


def _report_loss(plan: Plan) -> None:
    """One line for what is not done although it is declared."""
    held = [action.tenant for action in plan.actions if action.verb == "hold"]
    if held:
        _log.warning("many tenants are gone at once: nothing is done", tenants=held[:50], confirm=plan.confirm)
    for action in plan.actions:
        if action.verb == "refuse":
            _log.warning("a protected tenant is gone: it stays as it was", tenant=action.tenant)


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process have: an open tenant is one and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
