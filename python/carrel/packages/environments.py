"""One environment for each distinct set of packages: built off the request path, shared by all who have the set.

Where a closure is not demanded (a trial), the host's userland stands in while a build takes long, has failed, or cannot
be begun; it says so and why. Where one is demanded, nothing runs without it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, Unavailable
from carrel.packages.host import host_userland
from carrel.packages.protocol import BuildFailed, EnvironmentState, PackageSource
from carrel.tasks import Tasks
from carrel.tenancy.userland import Userland

PATIENCE_SECONDS: Final = 120.0
"""How long a trial waits for a build before it lends the host's userland until the build is done."""

RETRY_SECONDS: Final = (30.0, 120.0, 600.0)
"""Between attempts at what another attempt may mend; the last one for good."""

UPKEEP_SECONDS: Final = 30.0
COLLECT_SECONDS: Final = 3600.0
GRACE_SECONDS: Final = 8 * 86400.0
"""How long an environment stays that nobody wants: longer than any run in it may take."""

BUILDS_AT_ONCE: Final = 2
_LOG_LINES: Final = 200
_log = structlog.get_logger(__name__)


@dataclass
class _Entry:
    """One set of packages, from the first who asks for it on. ``settled`` ends its first attempt."""

    packages: frozenset[str]
    began: float
    asked: float
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    identity: str = ""
    userland: Userland | None = None
    failure: CarrelError | None = None
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def say(self, line: str) -> None:
        """Keep the end of the build log."""
        self.log.append(line)
        del self.log[:-_LOG_LINES]


class Environments:
    """Userlands by what is in them. ``require_closure`` refuses the host's userland, whatever the reason.

    ``wanted`` gives the sets that tenants have now: without it, none that was asked for is ever given up.
    """

    def __init__(
        self,
        *,
        source: PackageSource,
        require_closure: bool | Callable[[], bool],
        clock: Clock,
        tasks: Tasks,
        wanted: Callable[[], Iterable[frozenset[str]]] | None = None,
    ) -> None:
        self._source = source
        self._require_closure = require_closure
        self._clock = clock
        self._tasks = tasks
        self._wanted = wanted
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
        """Look at once whether the source is still what it was, as is done by itself every half a minute."""
        self._changed.set()

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
            entry.busy = True
            self._tasks.start(self._make(entry), name="build")

    async def _make(self, entry: _Entry) -> None:
        """Find or build it; what may pass is tried again, later and later, and at once where the source changes."""
        try:
            for attempt in range(1_000_000):
                entry.again.clear()
                await self._attempt(entry)
                entry.settled.set()
                if entry.failure is None or not entry.failure.retryable:
                    return
                delay = RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)]
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(entry.again.wait(), delay)
        finally:
            entry.busy = False
            entry.settled.set()

    async def _attempt(self, entry: _Entry) -> None:
        try:
            entry.identity = await self._source.identity()
            async with self._still:
                userland = await self._source.found(entry.packages)
            if userland is None:
                async with self._builds:
                    entry.log.clear()
                    started = self._clock.monotonic()
                    userland = await self._source.build(entry.packages, log=entry.say)
                    entry.seconds = self._clock.monotonic() - started
        except CarrelError as error:
            entry.failure = error
        except Exception:  # noqa: BLE001 - the root of the task: who waits is told, and the attempts go on
            _log.exception("an environment cannot be built", packages=sorted(entry.packages))
            entry.failure = BuildFailed("The environment cannot be built: a fault of Carrel's own.")
        else:
            entry.userland, entry.failure = userland, None
            _log.info("environment ready", packages=sorted(entry.packages), seconds=round(entry.seconds, 2))
            return
        _log.warning("an environment cannot be built", packages=sorted(entry.packages), reason=entry.failure.message)

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
            for entry in [e for e in self._entries.values() if not e.busy and now - e.asked > GRACE_SECONDS]:
                del self._entries[entry.packages]
        identity = await self._source.identity()
        for entry in self._entries.values():
            if entry.identity and entry.identity != identity:
                entry.again.set()
                self._begin(entry)
        if now - self._collected >= COLLECT_SECONDS:
            self._collected = now
            await self._let_go()

    async def _let_go(self) -> None:
        keys = {entry.userland.key for entry in self._entries.values() if entry.userland is not None}
        async with self._still:
            pruned = await self._source.prune(keys, before=self._clock.now() - timedelta(seconds=GRACE_SECONDS))
        if pruned:
            await self._source.collect()

    # --- telling ---

    def _demanded(self) -> bool:
        return self._require_closure if isinstance(self._require_closure, bool) else self._require_closure()

    def _state(self, entry: _Entry) -> EnvironmentState:
        packages, log = tuple(sorted(entry.packages)), "\n".join(entry.log)
        failure = "" if entry.failure is None else entry.failure.message
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
