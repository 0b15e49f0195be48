"""What runs for tenants: backups, restores, exports, imports. One at a time for each, and each can be stopped."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from carrel.backup.metrics import BackupMetrics
from carrel.backup.progress import Progress
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.ids import TenantId
from carrel.objects.pace import Pace

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One of them: how far it is, and what stops it."""

    progress: Progress
    pace: Pace


class Jobs:
    """All of a gateway's. ``rate`` gives the bytes a second that each may send or fetch, None for no bound."""

    def __init__(self, metrics: BackupMetrics, *, rate: Callable[[], int | None]) -> None:
        self._metrics = metrics
        self._rate = rate
        self._running: dict[TenantId, Job] = {}

    def close(self) -> None:
        """Stop what runs."""
        for job in self._running.values():
            job.pace.stop()

    def running(self, tenant: TenantId) -> Progress | None:
        """How far what runs for the tenant is."""
        job = self._running.get(tenant)
        return job.progress if job is not None else None

    def stop(self, tenant: TenantId) -> None:
        """End what runs for the tenant; raises NotFound."""
        job = self._running.get(tenant)
        if job is None:
            raise NotFound(f"No backup and no restore of {tenant} runs.")
        job.pace.stop()

    @asynccontextmanager
    async def hold(self, tenant: TenantId) -> AsyncIterator[Job]:
        """A job of the tenant's for as long as the block lasts; raises Conflict where one runs."""
        if tenant in self._running:
            raise Conflict(f"A backup or a restore of {tenant} runs already: wait for its end.")
        job = self._running[tenant] = Job(Progress(), Pace(self._rate()))
        try:
            yield job
        finally:
            del self._running[tenant]

    @contextmanager
    def counted(self, tenant: TenantId, what: str) -> Iterator[None]:
        """Count the block where it fails."""
        try:
            yield
        except CarrelError as error:
            self._metrics.failed(tenant, what, error.code)
            raise


async def in_thread(work: Callable[[], T], pace: Pace) -> T:
    """What ``work`` gives, done in a thread; where the caller is cancelled it is stopped, and this ends once it has."""
    going = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(going)
    except asyncio.CancelledError:
        pace.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([going])
        if going.done() and not going.cancelled():
            going.exception()
        raise
