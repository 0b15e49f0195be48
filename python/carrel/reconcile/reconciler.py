"""Keeps what is in force at what is declared: loads, watches, publishes snapshots, and says how it went.

A change is taken in when the file system says so, and every few seconds by comparing signatures, so that a missed
event costs seconds and not the change. What looks like a write half done (a file gone, emptied, or cut to a beginning
of what it was) is looked at twice before it counts; see docs/adr/0032.
"""

import asyncio
import gc
import resource
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import structlog
import watchfiles

from carrel.clock import Clock
from carrel.declare.directory import DirectoryUnreadable, counts
from carrel.declare.load import load_tree
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.plan.plan import Observed, Plan, compute_plan
from carrel.reconcile.halfway import Halfway
from carrel.reconcile.record import Record
from carrel.reconcile.status import Applied, ReconcileStatus
from carrel.reconcile.world import World
from carrel.store.sqlite import Worker
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot
from carrel.tenancy.overlay import StateOverlays
from carrel.wire.control import Actor

_LISTENER_SECONDS = 10.0
_log = structlog.get_logger(__name__)


class Environments(Protocol):
    """Gives tenants their userland, off the request path."""

    def request(self, packages: frozenset[str]) -> object:
        """Have an environment of these packages built, where it is not there yet. Returns at once."""
        ...


class Listener(Protocol):
    """Acts on a change that came into force: ends a suspended tenant's streams, say."""

    async def __call__(self, applied: Applied) -> None: ...


class Reconciler:
    """One for a gateway. ``load`` it, then run ``watch`` as a task; ``close`` it last.

    ``here`` says whose tenants are this gateway's, where several share the declarations.
    ``poll_seconds`` is the least time between two comparisons of signatures; a tree that takes long to compare is
    compared less often, so that it costs 2 % of a processor at most.
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
        self._poll_seconds = poll_seconds
        self._here = here
        self._worker = Worker("reconcile")
        self._lock = asyncio.Lock()
        self._world: World | None = None
        self._record: Record | None = None
        self._halfway = Halfway(clock)
        self._wake = asyncio.Event()
        self._noticed: set[str] = set()
        self._watching: Literal["inotify", "polling", "no"] = "no"
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
        await self._heard(told)

    def _first_load(self) -> tuple[Snapshot, Plan]:
        self._record = Record.open(self._state_dir)
        self._world = World(self._tenants_dir, self._state_dir, self._record, self._here)
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._world.start()
        finally:
            gc.freeze()
            if collecting:
                gc.enable()

    @property
    def world(self) -> World:
        """What is declared and in force; raises before the first load."""
        if self._world is None:
            raise CarrelError("Nothing is declared yet: the gateway is still starting.")
        return self._world

    # --- what came into force ---

    def _publish(self, snapshot: Snapshot, plan: Plan, started: float) -> list[asyncio.Task[None]]:
        """Swap the snapshot in and tell the listeners; what they do goes on in the tasks that this gives."""
        previous = self._directory.current if self._last_pass is not None else None
        self._last_pass = self._clock.now()
        self._last_seconds = self._clock.monotonic() - started
        if previous is not None and snapshot.revision == previous.revision and plan.is_empty:
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

    def _request_environments(self, snapshot: Snapshot, plan: Plan) -> None:
        if self._environments is None:
            return
        named = {tenant for tenant in snapshot.tenants if not snapshot.tenants[tenant].suspended}
        if not plan.operator_changes and self._requested:
            named &= {action.tenant for action in plan.actions}
        for packages in {frozenset(snapshot.tenants[tenant].config.packages) for tenant in named} - self._requested:
            self._requested.add(packages)
            self._environments.request(packages)

    # --- watching ---

    async def watch(self) -> None:
        """Follow the directory for good; cancel it to stop."""
        self._tasks.start(self._listen(), name="inotify")
        next_poll = self._clock.monotonic()
        while True:
            wait = max(0.0, min(next_poll - self._clock.monotonic(), self._halfway.wait()))
            names = await self._noticed_within(wait)
            polls = self._clock.monotonic() >= next_poll
            if not polls and not names and not self._halfway.due():
                continue
            began = self._clock.monotonic()
            await self._pass(None if polls else names, at_once=False)
            if polls:
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
            try:
                found = await self._worker.run(lambda: self._take_in(names, at_once=at_once))
            except DirectoryUnreadable as error:
                if self._unreadable is None:
                    _log.error("tenants.d cannot be read; all stays as it was", reason=error.message)
                self._unreadable = error.message
                return error
            except CarrelError as error:
                _log.error("what is declared could not be taken in; it is tried again", reason=error.message)
                return error
            self._unreadable = None
            if found is None:
                return Plan()
            told = self._publish(*found, started)
        await self._heard(told)
        return found[1]

    def _take_in(self, names: set[str] | None, *, at_once: bool) -> tuple[Snapshot, Plan] | None:
        loader = self.world.loader
        if names is None and _identity(self._tenants_dir) != self._watched:
            self._moved.set()
        changed = loader.changed() if names is None else names
        changed = set(changed) | self._halfway.take_due()
        if at_once:
            self._halfway.clear()
        else:
            changed = self._halfway.settled(changed, loader)
        if not changed and names is not None:
            return None
        return self.world.refresh(changed)

    # --- asked for ---

    async def reconcile_now(self, *, by: Actor | None = None) -> Plan:
        """Read what changed and bring it into force before this returns; raises DirectoryUnreadable."""
        if by is not None:
            _log.info("reconcile asked for", by=by.name, request_id=by.request_id)
        return await self._pass(None, at_once=True)

    async def settled(self, *, timeout: float = 10.0) -> Snapshot:  # noqa: ASYNC109 - the callers' deadline
        """The snapshot that holds everything written before this call; raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._pass(None, at_once=True)
        return self._directory.current

    async def plan(self, directory: Path | None = None) -> Plan:
        """What bringing ``directory`` (by default the gateway's own) into force would change now."""
        path = directory if directory is not None else self._tenants_dir
        async with self._lock:
            overlays = StateOverlays(self._state_dir)
            tree = await self._worker.run(lambda: load_tree(path, overlays=overlays, here=self._here))
            return compute_plan(tree, self.world.observed())

    async def observed(self) -> Observed:
        """What is in force, to hold a plan against elsewhere."""
        async with self._lock:
            return self.world.observed()

    async def status(self) -> ReconcileStatus:
        """How everything stands."""
        async with self._lock:
            world = self.world
            problems = [str(problem) for problem in world.problems()]
            problems += [text for text in (self._unreadable, world.fault) if text is not None]
            return ReconcileStatus(
                state="Stalled" if world.stalled or self._unreadable is not None else "Ready",
                revision=self._directory.current.revision,
                tenants_dir=str(self._tenants_dir),
                watching=self._watching,
                last_pass=self._last_pass,
                last_pass_seconds=round(self._last_seconds, 4),
                problems=tuple(problems),
                tenants=world.tenant_statuses(),
            )

    async def close(self) -> None:
        """Close the record and end the thread. Cancel ``watch`` first."""
        async with self._lock:
            if self._record is not None:
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
    for action in plan.actions:
        if action.verb == "broken":
            _log.warning("tenant is broken and stays as it was", tenant=action.tenant, problems=list(action.problems))
        elif action.verb != "unchanged" and not first:
            _log.info(
                "tenant changed", tenant=action.tenant, what=action.verb, keys=[c.path for c in action.changes]
            )  # fmt: skip
    for file in plan.operator_changes:
        _log.info("operator's file in force", file=file)
    if first:
        _log.info("declarations loaded", tenants=len(plan.actions), broken=plan.count("broken"))


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process have: an open tenant is one and more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
