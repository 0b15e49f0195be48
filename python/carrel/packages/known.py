"""What packages there are to choose from, found out off the request path and once for each state of the source."""

import asyncio
from collections.abc import Mapping
from typing import Final

from carrel.clock import Clock
from carrel.errors import CarrelError, Unavailable
from carrel.packages.protocol import About, PackageSource
from carrel.tasks import Tasks

AGAIN_SECONDS: Final = 60.0
"""After this long what could not be found out is tried again."""


class KnownPackages:
    """The names that ``source`` has."""

    def __init__(self, source: PackageSource, *, clock: Clock, tasks: Tasks) -> None:
        self._source = source
        self._clock = clock
        self._tasks = tasks
        self._identity = ""
        self._names: Mapping[str, About] | None = None
        self._failure: CarrelError | None = None
        self._tried = 0.0
        self._finding: asyncio.Event | None = None

    async def names(self, *, wait: float) -> Mapping[str, About]:
        """What there is. Raises Unavailable where that is not known within ``wait`` seconds.

        Raises PackageError where it cannot be known.
        """
        identity = await self._source.identity()
        stale = identity != self._identity
        failed = self._failure is not None and self._clock.monotonic() - self._tried >= AGAIN_SECONDS
        if self._finding is None and (stale or failed or (self._names is None and self._failure is None)):
            self._identity, self._tried = identity, self._clock.monotonic()
            self._finding = asyncio.Event()
            self._tasks.start(self._find(self._finding), name="catalogue")
        if self._finding is not None:
            try:
                await asyncio.wait_for(self._finding.wait(), wait)
            except TimeoutError:
                raise Unavailable("What packages there are is still being found out. Try again in a minute.") from None
        if self._failure is not None:
            raise self._failure
        return self._names or {}

    async def _find(self, done: asyncio.Event) -> None:
        try:
            self._names, self._failure = await self._source.catalogue(), None
        except CarrelError as error:
            self._names, self._failure = None, error
        finally:
            self._finding = None
            done.set()
