"""Backs tenants up when it is time, some at a time, and reads their newest backup back now and then.

Backups that others make, by the calendar say, are read back too.
"""

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
READ_AGAIN: Final = timedelta(days=1)
"""How long after one that could not be read back the next try is made, where no backup comes before."""
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


def verify_at(tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
    """When the newest backup is to be read back; None where it is not, or there is none."""
    if declared.verify_every_seconds is None or note.last is None:
        return None
    if tenant.removed or not tenant.config.backup.enabled:
        return None
    every = timedelta(seconds=declared.verify_every_seconds)
    return now if note.verified is None else min(note.verified + every, now + every)


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
        self._read: dict[TenantId, datetime] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.round()
            await self._clock.sleep(LOOK_SECONDS)

    async def round(self) -> None:
        """Back up every tenant whose time has come. A failure is that tenant's own."""
        declared = self._directory.current.gateway.backup
        if declared.to is None and declared.verify_every_seconds is None:
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
            note = await self._note(tenant)
            times = due_at(tenant, declared, note, now), self._verify_at(tenant, declared, note, now)
            when = min((one for one in times if one is not None), default=None)
            if when is None:
                continue
            self._known[tenant.id] = (declared, tenant.config.backup, when)
            if when <= now:
                yield tenant

    async def _one(self, tenant: Tenant, declared: BackupConfig) -> None:
        self._known.pop(tenant.id, None)
        try:
            note = await self._note(tenant)
            due = due_at(tenant, declared, note, self._clock.now())
            made = due is not None and due <= self._clock.now()
            if made:
                await self._back_up(tenant)
                note = await self._note(tenant)
            now = self._clock.now()
            when = verify_at(tenant, declared, note, now) if made else self._verify_at(tenant, declared, note, now)
            if when is not None and when <= now:
                self._read[tenant.id] = now
                await self._verify(tenant)
        except CarrelError as error:
            _log.error("a scheduled backup failed", tenant=tenant.id, code=error.code, error=error.message)

    def _verify_at(self, tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
        """The same as `verify_at`, and not at once again where it did not go well."""
        when, read = verify_at(tenant, declared, note, now), self._read.get(tenant.id)
        if when is None or read is None or declared.verify_every_seconds is None:
            return when
        return max(when, read + min(timedelta(seconds=declared.verify_every_seconds), READ_AGAIN))
