"""The environment of one turn's tools: asked for when the first needs it, and waited for by all of them together."""

import asyncio
from collections.abc import Callable
from typing import Final

from carrel.agents.ports import Environments
from carrel.errors import CarrelError
from carrel.tasks import Tasks
from carrel.tenancy.userland import Userland

WAIT_SECONDS: Final = 60.0
QUIET_SECONDS: Final = 1.0


class TurnUserland:
    """The userland with ``packages``."""

    def __init__(self, environments: Environments, packages: frozenset[str], *, tasks: Tasks) -> None:
        self._environments = environments
        self._packages = packages
        self._tasks = tasks
        self._finding: asyncio.Task[Userland | CarrelError] | None = None

    async def get(self, notice: Callable[[str], None]) -> Userland:
        """The userland; ``notice`` is told where it takes a while. Raises what its build failed with."""
        if self._finding is None:
            self._finding = self._tasks.start(self._find(), name="userland")
            await asyncio.wait([self._finding], timeout=QUIET_SECONDS)
            if not self._finding.done():
                notice(f"The environment is still being built; waiting for it, {WAIT_SECONDS:g} s at most.")
        found = await asyncio.shield(self._finding)
        if isinstance(found, CarrelError):
            raise found
        return found

    async def close(self) -> None:
        """Stop waiting."""
        if self._finding is not None and not self._finding.done():
            self._finding.cancel()
            await asyncio.wait([self._finding], timeout=QUIET_SECONDS)

    async def _find(self) -> Userland | CarrelError:
        try:
            return await self._environments.userland(self._packages, wait=WAIT_SECONDS)
        except CarrelError as error:
            return error
