"""One environment for each distinct set of packages: built off the request path, shared by all who have the set.

Where a closure is not demanded (a trial), the host's userland stands in while a build takes long, has failed, or cannot
be begun; it says so and why. Where one is demanded, nothing runs without it.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, Unavailable
from carrel.packages.host import host_userland
from carrel.packages.logs import BuildLog, BuildLogs
from carrel.packages.protocol import BuildFailed, EnvironmentState, EvaluationStopped, NoRoom, PackageSource
from carrel.tasks import Tasks
from carrel.tenancy.userland import Userland

PATIENCE_SECONDS: Final = 120.0
"""How long a trial waits for a build before it lends the host's userland until the build is done."""

RETRY_SECONDS: Final = (30.0, 120.0, 600.0, 1800.0, 7200.0, 21600.0)
"""Between attempts at what another attempt may mend; the last one for good."""
EVALUATIONS: Final = 3
"""So often what is over its time in evaluation is tried: one without an end would keep a processor busy for ever."""
LOG_SECONDS: Final = 1.0
"""How long what a build prints may wait to be written down."""

UPKEEP_SECONDS: Final = 30.0
COLLECT_SECONDS: Final = 3600.0
GRACE_SECONDS: Final = 86400.0
"""How long an environment stays that nobody wants or uses."""

BUILDS_AT_ONCE: Final = 2
_log = structlog.get_logger(__name__)


@dataclass
class _Entry:
    """One set of packages, from the first who asks for it on. ``settled`` ends its first attempt.

    It is ``busy`` until it is there or cannot be had, and ``trying`` while that is at work and not waiting. It is
    ``lost`` where what was built was removed by somebody else, until it is built again.
    """

    packages: frozenset[str]
    began: float
    asked: float
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    trying: bool = False
    lost: bool = False
    identity: str = ""
    userland: Userland | None = None
    failure: CarrelError | None = None
    log: BuildLog = field(default_factory=BuildLog)
    earlier: str = ""
    seconds: float = 0.0

    def logged(self) -> str:
        """What its builds have printed, the one that goes on last."""
        return "\n".join(part for part in (self.earlier, self.log.text()) if part)


class Environments:
    """Userlands by what is in them. ``require_closure`` refuses the host's userland, whatever the reason.

    ``wanted`` gives the sets that tenants have now: without it, none that was asked for is ever given up. ``grace``
    says for how many seconds more what nobody wants stays. What was handed out and is still held by anybody (a turn, a
    sandbox that runs or is kept) is never collected. ``logs`` keeps what builds print.
    """

    def __init__(
        self,
        *,
        source: PackageSource,
        require_closure: bool | Callable[[], bool],
        clock: Clock,
        tasks: Tasks,
        wanted: Callable[[], Iterable[frozenset[str]]] | None = None,
        grace: Callable[[], float] = lambda: GRACE_SECONDS,
        logs: BuildLogs | None = None,
    ) -> None:
        self._source = source
        self._require_closure = require_closure
        self._clock = clock
        self._tasks = tasks
        self._wanted = wanted
        self._grace = grace
        self._logs = logs
        self._handed: list[weakref.ref[Userland]] = []
        self._entries: dict[frozenset[str], _Entry] = {}
        self._builds = asyncio.Semaphore(BUILDS_AT_ONCE)
        # What is being looked for must not be removed at the same time.
        self._still = asyncio.Lock()
        self._upkept = False
        self._changed = asyncio.Event()
        self._collected = clock.monotonic()

    def request(self, packages: frozenset[str]) -> object:
        """Begin to build the environment with ``packages`` where nobody has; it is announced by `states`."""
        now = self._clock.monotonic()
        entry = self._entries.get(packages)
        if entry is None:
            entry = self._entries[packages] = _Entry(packages, now, now)
            self._begin(entry)
        entry.asked = now
        if not self._upkept:
            self._upkept = True
            self._tasks.start(self._upkeep(), name="upkeep")
        return entry

    def refresh(self) -> None:
        """Look at once whether the source is still what it was, as is done by itself every half a minute.

        What was given up for its time of evaluation is tried again: the limit may be another now.
        """
        for entry in self._entries.values():
            if isinstance(entry.failure, EvaluationStopped):
                self._begin(entry)
        self._changed.set()

    def retry(self, packages: frozenset[str] | None = None) -> None:
        """Try once more what failed, of ``packages`` or of all: somebody says that what was in the way is gone."""
        for entry in self._entries.values():
            if packages in (None, entry.packages) and entry.failure is not None and not entry.trying:
                if entry.userland is None:
                    # Who asks now waits for how this goes, and not for how it went before.
                    entry.failure, entry.began = None, self._clock.monotonic()
                    entry.settled.clear()
                entry.again.set()
                self._begin(entry)

    async def userland(self, packages: frozenset[str], *, wait: float) -> Userland:
        """The userland with ``packages``. Raises Unavailable where it is not built within ``wait`` seconds.

        Raises PackageError where it cannot be built. A trial gets the host's userland instead of either.
        """
        self.request(packages)
        entry = self._entries[packages]
        if not entry.settled.is_set():
            patience = wait
            if not self._demanded():
                patience = min(wait, entry.began + PATIENCE_SECONDS - self._clock.monotonic())
            if patience > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(entry.settled.wait(), patience)
        if entry.userland is not None:
            return entry.userland
        if not self._demanded():
            return host_userland(_reason(entry))
        if entry.failure is not None:
            raise entry.failure
        raise Unavailable(f"The environment {_named(packages)} is still being built. Try again in a minute.")

    def states(self) -> tuple[EnvironmentState, ...]:
        """Every set that was asked for, and where it stands."""
        return tuple(self._state(entry) for entry in self._entries.values())

    def summary(self) -> str:
        """One line for the start: what tools run on, and why where it is not a closure."""
        states = self.states()
        if not states:
            return "none yet: no tenant has an agent"
        counts = {
            name: sum(state.state == name for state in states) for name in ("ready", "building", "failed", "host")
        }
        if counts["ready"] == len(states):
            return f"closure ({len(states)} environment{'s' * (len(states) != 1)})"
        waiting = next(state for state in states if state.state != "ready")
        if waiting.state == "building":
            return f"closure, being built ({counts['ready']} of {len(states)} environments are ready)"
        return f"{'host' if waiting.state == 'host' else 'none'}: {waiting.reason}"

    async def settled(self) -> None:
        """Wait until nothing is being built for the first time."""
        await asyncio.gather(*(entry.settled.wait() for entry in self._entries.values()))

    # --- one environment ---

    def _begin(self, entry: _Entry) -> None:
        if not entry.busy:
            entry.busy = entry.trying = True
            self._tasks.start(self._make(entry), name="build")

    async def _make(self, entry: _Entry) -> None:
        """Find or build it; what may pass is tried again, later and later, and at once where the source changes."""
        stopped = 0
        try:
            for attempt in range(1_000_000):
                entry.again.clear()
                entry.trying = True
                await self._attempt(entry)
                entry.trying = False
                entry.settled.set()
                await self._make_room(entry)
                if entry.failure is None or not entry.failure.retryable:
                    return
                stopped = stopped + 1 if isinstance(entry.failure, EvaluationStopped) else 0
                if stopped == EVALUATIONS:
                    _log.warning("an evaluation is given up until something changes", packages=sorted(entry.packages))
                    return
                delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(entry.again.wait(), delay)
        finally:
            entry.busy = entry.trying = False
            entry.settled.set()

    async def _attempt(self, entry: _Entry) -> None:
        try:
            entry.identity = await self._source.identity()
            async with self._still:
                found = await self._source.found(entry.packages)
                userland = found and self._held(found)
            if self._logs is not None:
                entry.earlier = await asyncio.to_thread(self._logs.text, entry.packages)
            if userland is None:
                async with self._builds:
                    userland = await self._built(entry)
        except CarrelError as error:
            entry.failure = error
        except Exception:  # noqa: BLE001 - the root of the task: who waits is told, and the attempts go on
            _log.exception("an environment cannot be built", packages=sorted(entry.packages))
            entry.failure = BuildFailed("The environment cannot be built: a fault of Carrel's own.")
        else:
            entry.userland, entry.failure, entry.lost = userland, None, False
            _log.info("environment ready", packages=sorted(entry.packages), seconds=round(entry.seconds, 2))
            return
        _log.warning("an environment cannot be built", packages=sorted(entry.packages), reason=entry.failure.message)

    async def _make_room(self, entry: _Entry) -> None:
        """What builds have left that the disk was too full for is nobody's, and everybody else needs the room."""
        if isinstance(entry.failure, NoRoom) and not any(other.trying for other in self._entries.values()):
            await self._source.collect()

    async def _built(self, entry: _Entry) -> Userland:
        began, started = self._clock.now(), self._clock.monotonic()
        log = entry.log = self._logs.begin() if self._logs is not None else BuildLog()
        writing = self._tasks.start(self._write_log(entry, began), name="build log")
        try:
            try:
                userland = self._held(await self._source.build(entry.packages, log=log.say))
            finally:
                writing.cancel()
                await asyncio.wait([writing])
        except CarrelError as error:
            await self._keep_log(entry, began, error.message)
            raise
        entry.seconds = self._clock.monotonic() - started
        await self._keep_log(entry, began, f"built in {entry.seconds:.1f} s")
        return userland

    async def _write_log(self, entry: _Entry, began: datetime) -> None:
        """Write down what a build prints as it goes, so that it is there also where the gateway ends meanwhile."""
        logs, written = self._logs, 0
        while logs is not None:
            await asyncio.sleep(LOG_SECONDS)
            if entry.log.lines != written:
                written = entry.log.lines
                half = asyncio.ensure_future(asyncio.to_thread(logs.write, entry.packages, entry.log, at=began))
                try:
                    await asyncio.shield(half)
                finally:
                    # The whole is written next, and is not to be overwritten by this.
                    await asyncio.wait([half])

    async def _keep_log(self, entry: _Entry, began: datetime, ended: str) -> None:
        logs = self._logs
        if logs is not None:
            await asyncio.to_thread(logs.keep, entry.packages, entry.log, at=began, ended=ended)
            entry.earlier = await asyncio.to_thread(logs.text, entry.packages)
            entry.log = BuildLog()

    def _held(self, userland: Userland) -> Userland:
        """The one object that stands for this userland: who holds it is seen by that."""
        self._handed = [one for one in self._handed if one() is not None]
        for one in self._handed:
            before = one()
            if before == userland and before is not None:
                return before
        self._handed.append(weakref.ref(userland))
        return userland

    # --- all of them, as time goes by ---

    async def _upkeep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), UPKEEP_SECONDS)
            self._changed.clear()
            try:
                await self._look_after()
            except CarrelError as error:
                _log.warning("the environments cannot be looked after", reason=error.message)

    async def _look_after(self) -> None:
        """Make anew what its source has changed under, have what is wanted, let go of what has not been for long."""
        now = self._clock.monotonic()
        if self._wanted is not None:
            for packages in set(self._wanted()):
                self.request(packages)
            for entry in [e for e in self._entries.values() if not e.busy and now - e.asked > self._grace()]:
                del self._entries[entry.packages]
        identity = await self._source.identity()
        for entry in list(self._entries.values()):
            if entry.identity and entry.identity != identity:
                entry.again.set()
                self._begin(entry)
            elif entry.userland is not None and not entry.busy and await self._source.found(entry.packages) is None:
                _log.warning("an environment is gone from the state, and is made anew", packages=sorted(entry.packages))
                entry.lost = True
                entry.again.set()
                self._begin(entry)
        # What a build has made so far is nobody's yet.
        if now - self._collected >= COLLECT_SECONDS and not any(entry.trying for entry in self._entries.values()):
            self._collected = now
            await self._let_go()

    async def _let_go(self) -> None:
        async with self._still:
            keys = {userland.key for one in self._handed if (userland := one()) is not None}
            pruned = await self._source.prune(keys, before=self._clock.now() - timedelta(seconds=self._grace()))
        if pruned:
            await self._source.collect()

    # --- telling ---

    def _demanded(self) -> bool:
        return self._require_closure if isinstance(self._require_closure, bool) else self._require_closure()

    def _state(self, entry: _Entry) -> EnvironmentState:
        packages, log = tuple(sorted(entry.packages)), entry.logged()
        failure = "" if entry.failure is None else entry.failure.message
        if entry.lost:
            return EnvironmentState(
                packages, "failed" if failure else "building", None, failure or "it was gone, and is made anew", log
            )
        if entry.userland is not None:
            # A failure here is of making it anew: what was made before goes on.
            return EnvironmentState(packages, "ready", entry.userland, failure, log, entry.seconds)
        if failure:
            return EnvironmentState(packages, "failed" if self._demanded() else "host", None, failure, log)
        return EnvironmentState(packages, "building", None, "it is being built", log)


def _reason(entry: _Entry) -> str:
    return "the closure is still being built" if entry.failure is None else entry.failure.message


def _named(packages: frozenset[str]) -> str:
    return f"with {', '.join(sorted(packages))}" if packages else "with the base set"
