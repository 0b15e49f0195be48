"""Tells how everything stands: the gateway's own conditions, metrics, `status.json`. For the reconciler's thread."""

import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError
from carrel.plan.conditions import STATUSES, TYPES
from carrel.plan.drift import KINDS
from carrel.reconcile import status_file
from carrel.reconcile.rows import Row
from carrel.reconcile.standing import HOUSE
from carrel.reconcile.status import ReconcileStatus, Watching
from carrel.reconcile.world import World
from carrel.telemetry import Metrics

_LEAST_SECONDS: Final = 1.0
_SHARE: Final = 20
"""Writing the file takes at most this part of the time."""
_Wanted = tuple[int, str, frozenset[str]]
"""What changes where the file has something new to say."""
_log = structlog.get_logger(__name__)


class Telling:
    """For one reconciler. ``watching``, ``last_pass`` and the like are its own, and set by it."""

    def __init__(
        self, *, tenants_dir: Path, state_dir: Path, clock: Clock, metrics: Metrics | None, version: str
    ) -> None:
        self._tenants_dir = tenants_dir
        self._state_dir = state_dir
        self._clock = clock
        self._metrics = metrics
        self._version = version
        self._wanted: _Wanted | None = None
        self._next = 0.0
        self._busy = False
        self._number = 0
        self._writing = threading.Lock()

    def passed(self, world: World, *, unreadable: str | None, seconds: float, failed: bool = False) -> None:
        """A pass is over: see the gateway's conditions anew, count, and write the file where something is new."""
        problems = house_problems(world, unreadable)
        stalled = world.stalled or unreadable is not None
        world.outlook.restate_house(problems, stalled=stalled, revision=world.snapshot().revision)
        if self._metrics is not None:
            counts = world.record.standing.counts()
            self._metrics.reconciled(seconds, failed=failed, at=self._clock.now())
            self._metrics.conditions({(t, s): counts.get((t, s), 0) for t in TYPES for s in STATUSES})
            kinds = world.patrol.kinds()
            self._metrics.drift({kind: kinds.get(kind, 0) for kind in KINDS})

    def write(self, world: World, house: ReconcileStatus, *, now: bool = False) -> Callable[[], None] | None:
        """What writes the file, in any thread; None where it is as it should be, or was written just before.

        What it writes is how everything stands at this call.
        """
        wanted = world.record.standing.version, house.state, world.patrol.uncommitted
        if wanted == self._wanted or (not now and (self._busy or self._clock.monotonic() < self._next)):
            return None
        before, self._wanted, self._busy = self._wanted, wanted, True
        self._number += 1
        return partial(self._write, self._number, house, world.rows(), before)

    def _write(self, number: int, house: ReconcileStatus, rows: list[Row], before: _Wanted | None) -> None:
        with self._writing:
            if number < self._number:
                return
            started = self._clock.monotonic()
            try:
                status_file.write(self._state_dir, house, rows, version=self._version)
            except CarrelError as error:
                _log.warning("status.json is not up to date", reason=error.message)
                self._wanted = before
            spent = self._clock.monotonic() - started
            self._next, self._busy = self._clock.monotonic() + max(_LEAST_SECONDS, _SHARE * spent), False


def house_problems(world: World, unreadable: str | None) -> tuple[str, ...]:
    """What is wrong that is no one tenant's."""
    problems = [str(problem) for problem in world.problems()]
    return (*problems, *(text for text in (unreadable, world.fault) if text is not None))


def house_status(
    world: World, *, tenants_dir: Path, watching: Watching, unreadable: str | None, last: tuple[datetime | None, float]
) -> ReconcileStatus:
    """How the gateway as a whole stands, without its tenants."""
    at, seconds = last
    return ReconcileStatus(
        state="Stalled" if world.stalled or unreadable is not None else "Ready",
        revision=world.snapshot().revision,
        tenants_dir=str(tenants_dir),
        watching=watching,
        last_pass=at,
        last_pass_seconds=round(seconds, 4),
        problems=house_problems(world, unreadable),
        conditions=world.record.standing.conditions(HOUSE),
        confirm=world.outlook.loss.confirm,
        deleted=world.record.deletions(),
        uncommitted=tuple(sorted(world.patrol.uncommitted)),
        tenants=(),
    )
