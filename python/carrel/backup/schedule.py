"""Backs tenants up when it is time, some at a time, and reads their newest backup back now and then."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import structlog

from carrel.backup.note import Note
from carrel.backup.target import interval_of
from carrel.clock import Clock
from carrel.declare.backup import BackupConfig
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.tenancy.handle import Directory, Tenant

_log = structlog.get_logger(__name__)
LOOK_SECONDS: Final = 30.0
AGAIN: Final = timedelta(minutes=10)
"""How long after one that failed the next try is made, where the interval is longer than that."""


def due_at(tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
    """When the tenant's next backup is to begin; None where the schedule makes none.

    A tenant that never had one has it at once. Others keep their interval, and a failure is tried again sooner.
    """
    seconds = interval_of(declared, tenant.config.backup)
    if seconds is None or tenant.removed:
        return None
    every = timedelta(seconds=seconds)
    wanted = now if note.last is None else note.last + every
    if note.failed is not None and note.tried is not None:
        return max(wanted, note.tried + min(every, AGAIN))
    # A clock that was set back must not make a tenant wait for longer than its interval.
    return min(wanted, now + every)


def verify_due(declared: BackupConfig, note: Note, now: datetime) -> bool:
    """Whether the newest backup is to be read back now."""
    if declared.verify_every_seconds is None:
        return False
    return note.verified is None or now >= note.verified + timedelta(seconds=declared.verify_every_seconds)


class Schedule:
    """``back_up`` and ``verify`` do it, and ``note`` says when it was done last."""

    def __init__(
        self,
        *,
        directory: Directory,
        clock: Clock,
        note: Callable[[Tenant], Awaitable[Note]],
        back_up: Callable[[Tenant], Awaitable[object]],
        verify: Callable[[Tenant], Awaitable[object]],
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._note = note
        self._back_up = back_up
        self._verify = verify
        self._known: dict[TenantId, tuple[BackupConfig, object, datetime]] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(LOOK_SECONDS)

    async def round(self) -> None:
        """Back up every tenant whose time has come. A failure is that tenant's own."""
        declared = self._directory.current.gateway.backup
        if declared.to is None:
            return
        places = asyncio.Semaphore(declared.concurrent)

        async def one(tenant: Tenant) -> None:
            async with places:
                await self._one(tenant, declared)

        due = [tenant async for tenant in self._due(declared, list(self._directory.current.tenants.values()))]
        due.sort(key=lambda tenant: zlib.crc32(tenant.id.encode()))
        await asyncio.gather(*(one(tenant) for tenant in due))

    async def _due(self, declared: BackupConfig, tenants: Iterable[Tenant]) -> AsyncIterator[Tenant]:
        now = self._clock.now()
        for tenant in tenants:
            known = self._known.get(tenant.id)
            same = known is not None and known[0] is declared and known[1] is tenant.config.backup
            if known is not None and same and now < known[2] <= now + timedelta(days=8):
                continue
            when = due_at(tenant, declared, await self._note(tenant), now)
            if when is None:
                continue
            self._known[tenant.id] = (declared, tenant.config.backup, when)
            if when <= now:
                yield tenant

    async def _one(self, tenant: Tenant, declared: BackupConfig) -> None:
        self._known.pop(tenant.id, None)
        try:
            await self._back_up(tenant)
            if verify_due(declared, await self._note(tenant), self._clock.now()):
                await self._verify(tenant)
        except CarrelError as error:
            _log.error("a scheduled backup failed", tenant=tenant.id, code=error.code, error=error.message)
