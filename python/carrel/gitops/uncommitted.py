"""Looks whether what is declared in a work tree is in a commit, and says so where it is not.

An edit is in force as soon as it is saved; whoever asks the history later, or pulls elsewhere, does not find it there.
"""

from collections.abc import Collection
from typing import Final, Protocol

import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, Conflict

LOOK_SECONDS: Final = 10.0
_log = structlog.get_logger(__name__)


class Place(Protocol):
    """See `vcs.work_tree.WorkTree`."""

    async def signature(self) -> object: ...
    async def uncommitted(self) -> tuple[str, ...]: ...


class Told(Protocol):
    """See `reconcile.reconciler.Reconciler`."""

    async def see_uncommitted(self, names: Collection[str]) -> None: ...


class Uncommitted:
    """For one gateway; run ``watch`` as a task."""

    def __init__(self, place: Place, told: Told, clock: Clock) -> None:
        self._place = place
        self._told = told
        self._clock = clock
        self._seen: object = object()
        self._names: tuple[str, ...] = ()

    async def watch(self) -> None:
        """Look for good; cancel it to stop."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once, where anything moved since the last time."""
        try:
            seen = await self._place.signature()
            if seen == self._seen:
                return
            names = await self._names_of(seen)
        except CarrelError as error:
            _log.warning("whether declarations are committed cannot be seen", reason=error.message)
            return
        self._seen = seen
        if names != self._names:
            await self._told.see_uncommitted(names)
            self._names = names

    async def _names_of(self, seen: object) -> tuple[str, ...]:
        if seen is None:
            return ()
        try:
            return await self._place.uncommitted()
        except Conflict:
            # There is no commit yet, or no work tree any more: nothing to differ from.
            return ()
