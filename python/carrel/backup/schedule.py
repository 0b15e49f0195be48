"""Backs tenants up when it is time, some at a time, and reads their newest backup back now and then.

Backups that others make, by the calendar say, are read back too.
"""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import structlog

from carrel.backup.note import Note
from carrel.backup.target import interval_of
from carrel.clock import Clock
from carrel.declare.backup import BackupConfig
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant

_log = structlog.get_logger(__name__)
_Work = Literal["backup", "read"]
LOOK_SECONDS: Final = 30.0
READ_AGAIN: Final = timedelta(days=1)
"""How long after one that could not be read back the next try is made, where no backup comes before."""
AHEAD: Final = timedelta(minutes=1)
"""What a note may be ahead of the clock, which is set a little back now and then."""
AGAIN: Final = timedelta(minutes=10)
"""How long after one that failed the next try is made, where the interval is longer than that."""


def due_at(tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
    """When the tenant's next backup is to begin; None where the schedule makes none.

    A tenant that never had one has it at once. Others keep their interval, and a failure is tried again sooner.
    """
    seconds = interval_of(declared, tenant.config.backup)
    if seconds is None or tenant.removed:
        return None
    every, last, tried = timedelta(seconds=seconds), _past(note.last, now), _past(note.tried, now)
    wanted = now if last is None else last + every
    return wanted if note.failed is None or tried is None else max(wanted, tried + min(every, AGAIN))


def verify_at(tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
    """When the newest backup is to be read back; None where it is not, or there is none."""
    if declared.verify_every_seconds is None or note.last is None:
        return None
    if tenant.removed or not tenant.config.backup.enabled:
        return None
    verified = _past(note.verified, now)
    return now if verified is None else verified + timedelta(seconds=declared.verify_every_seconds)


def _past(moment: datetime | None, now: datetime) -> datetime | None:
    """``moment``, but for one that is ahead of ``now``.

    The clock was set back since: how long ago that was is not known, and is waited for by nobody.
    """
    return None if moment is None or moment > now + AHEAD else moment


class Schedule:
    """``back_up`` and ``verify`` do it, as ``tasks``, and ``note`` says when it was done last.

    Nobody waits for another's to end but for a place: there are as many as backups may be made at a time, and reading
    back never takes the last of them. Where there is one, it is for backups, and one is read back beside it.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        clock: Clock,
        tasks: Tasks,
        note: Callable[[Tenant], Awaitable[Note]],
        back_up: Callable[[Tenant], Awaitable[object]],
        verify: Callable[[Tenant], Awaitable[object]],
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._tasks = tasks
        self._note = note
        self._back_up = back_up
        self._verify = verify
        self._known: dict[TenantId, tuple[BackupConfig, object, datetime, datetime]] = {}
        self._read: dict[TenantId, datetime] = {}
        # Who waits for a place, in order, and who has one, and for which of the two.
        self._waiting: dict[_Work, dict[TenantId, None]] = {"backup": {}, "read": {}}
        self._running: dict[TenantId, _Work] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled; what has begun by then is ended by whose tasks they are."""
        while True:
            await self.round()
            await self._clock.sleep(LOOK_SECONDS)

    async def round(self) -> None:
        """Begin with every tenant whose time has come, as far as there are places. It does not wait for their ends."""
        declared = self._directory.current.gateway.backup
        if declared.to is None and declared.verify_every_seconds is None:
            return
        due = [found async for found in self._due(declared, list(self._directory.current.tenants.values()))]
        for tenant, work in sorted(due, key=lambda one: zlib.crc32(one[0].encode())):
            self._waiting[work][tenant] = None
        self._fill()

    async def _due(self, declared: BackupConfig, tenants: Iterable[Tenant]) -> AsyncIterator[tuple[TenantId, _Work]]:
        now = self._clock.now()
        for tenant in tenants:
            if self._under_way(tenant.id):
                continue
            known = self._known.get(tenant.id)
            same = known is not None and known[0] is declared and known[1] is tenant.config.backup
            if known is not None and same and known[3] - AHEAD <= now < known[2]:
                continue
            note = await self._note(tenant)
            backup, read = due_at(tenant, declared, note, now), self._verify_at(tenant, declared, note, now)
            when = min((one for one in (backup, read) if one is not None), default=None)
            if when is None:
                continue
            self._known[tenant.id] = (declared, tenant.config.backup, when, now)
            if when <= now and not self._under_way(tenant.id):
                yield tenant.id, "backup" if backup is not None and backup <= now else "read"

    def _under_way(self, tenant: TenantId) -> bool:
        return tenant in self._running or any(tenant in waiting for waiting in self._waiting.values())

    def _fill(self) -> None:
        """Begin with those who wait, as long as there is a place."""
        while (work := self._next()) is not None:
            tenant = next(iter(self._waiting[work]))
            del self._waiting[work][tenant]
            self._running[tenant] = work
            self._tasks.start(self._run(tenant, work), name=f"{work}.{tenant}")

    def _next(self) -> _Work | None:
        places = self._directory.current.gateway.backup.concurrent
        backups, reads = (sum(one == work for one in self._running.values()) for work in ("backup", "read"))
        if backups + reads >= max(places, 2):
            return None
        # One is read back whatever waits, or where backups are always due none would be.
        if self._waiting["read"] and not reads:
            return "read"
        if self._waiting["backup"] and backups < places:
            return "backup"
        return "read" if self._waiting["read"] and reads < places - 1 else None

    async def _run(self, tenant_id: TenantId, work: _Work) -> None:
        self._known.pop(tenant_id, None)
        read = False
        try:
            tenant = self._directory.current.tenants.get(tenant_id)
            if tenant is not None:
                read = await (self._made(tenant) if work == "backup" else self._read_back(tenant))
        except CarrelError as error:
            _log.error("a scheduled backup failed", tenant=tenant_id, code=error.code, error=error.message)
        finally:
            del self._running[tenant_id]
        if read:
            self._waiting["read"][tenant_id] = None
        self._fill()

    async def _made(self, tenant: Tenant) -> bool:
        """Back it up where that is still due; whether it is to be read back next."""
        declared = self._directory.current.gateway.backup
        due = due_at(tenant, declared, await self._note(tenant), self._clock.now())
        if due is None or due > self._clock.now():
            return False
        await self._back_up(tenant)
        # What could not be read back was an older one.
        self._read.pop(tenant.id, None)
        when = verify_at(tenant, declared, await self._note(tenant), self._clock.now())
        return when is not None and when <= self._clock.now()

    async def _read_back(self, tenant: Tenant) -> bool:
        """Read it back where that is still due; False, for nothing comes next."""
        declared, now = self._directory.current.gateway.backup, self._clock.now()
        when = self._verify_at(tenant, declared, await self._note(tenant), now)
        if when is not None and when <= now:
            self._read[tenant.id] = now
            await self._verify(tenant)
        return False

    def _verify_at(self, tenant: Tenant, declared: BackupConfig, note: Note, now: datetime) -> datetime | None:
        """The same as `verify_at`, and not at once again where it did not go well."""
        when, read = verify_at(tenant, declared, note, now), _past(self._read.get(tenant.id), now)
        if when is None or read is None or declared.verify_every_seconds is None:
            return when
        return max(when, read + min(timedelta(seconds=declared.verify_every_seconds), READ_AGAIN))
