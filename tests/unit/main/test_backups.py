"""Backups in the whole gateway: an audit line before each, and a tenant's own restore that outlives its request."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.log import Audit
from carrel.backup.catalogue import BackupInfo
from carrel.backup.note import Note
from carrel.backup.restore import Restored
from carrel.clock import SystemClock
from carrel.errors import Conflict, InvalidRequest
from carrel.ids import RequestId, TenantId
from carrel.main.backups import BackupKeeping, keep_backups
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.wire import backups, control
from carrel.wire.control import AuditQuery
from tests.fakes.patience import eventually, soon
from tests.fakes.tenants import make_snapshot, make_tenant

BY = control.Actor("ak_ops", RequestId("req_1"))
AT = datetime(2026, 3, 1, tzinfo=UTC)
INFO = BackupInfo(id="20260301T120000Z-00000001", at=AT, host="h", files=1, bytes=2, sent=3)


class Service:
    """Gives what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.swapped = False

    def _done(self) -> Restored:
        return Restored(TenantId("acme"), TenantId("acme"), INFO.id, AT, 1, 2, 1, 0)

    async def back_up(self, tenant: Tenant, **_: object) -> BackupInfo:
        if self.error is not None:
            raise self.error
        return INFO

    async def restore(self, tenant: Tenant, source: object, *, ready: Any = None) -> Restored:
        if self.error is not None:
            raise self.error
        if ready is not None:
            await ready(self._done())
            await self.go_on.wait()
        self.swapped = True
        return self._done()

    async def verify(self, tenant: Tenant, source: object) -> list[str]:
        return []

    async def note(self, tenant: Tenant) -> Note:
        return Note(last=datetime.now(UTC))

    def running(self, tenant: TenantId) -> None:
        return None


class Rig:
    def __init__(self, audit: Audit, tenant: Tenant) -> None:
        self.service, self.audit, self.tenant, self.tasks = Service(), audit, tenant, Tasks("backups")
        self.keeping = BackupKeeping(service=self.service, audit=audit, tasks=self.tasks)  # type: ignore[arg-type] # all of it that is used

    async def lines(self) -> list[tuple[str, str]]:
        page = await self.audit.page(AuditQuery(action="tenants.*"))
        return [(str(line["action"]), str(line["outcome"])) for line in page.lines]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    audit = Audit(state_dir=tmp_path, clock=SystemClock())
    await audit.start()
    made = Rig(audit, make_tenant(tmp_path))
    yield made
    await made.tasks.close()
    made.tenant.root.close()


async def test_each_has_one_line_that_says_how_it_ended(rig: Rig) -> None:
    await rig.keeping.back_up(rig.tenant, backups.BackupOrder(), by=BY, local=True)
    assert not rig.keeping.running(rig.tenant).running
    await rig.keeping.restore(rig.tenant, backups.RestoreOrder(), by=BY, local=True)
    rig.service.error = Conflict("busy")
    with pytest.raises(Conflict):
        await rig.keeping.back_up(rig.tenant, backups.BackupOrder(), by=BY, local=True)
    assert await rig.lines() == [
        ("tenants.backup", "ok"), ("tenants.restore", "ok"), ("tenants.backup", "failed: conflict"),
    ]  # fmt: skip


async def test_a_tenants_own_restore_answers_before_the_swap(rig: Rig) -> None:
    done = await soon(rig.keeping.restore_own(rig.tenant, f"acme/manifests/{INFO.id}", by=BY))
    assert (done.backup, rig.service.swapped) == (INFO.id, False)
    rig.service.go_on.set()
    await eventually(lambda: rig.service.swapped)
    rig.service.error = Conflict("busy")
    with pytest.raises(Conflict):
        await soon(rig.keeping.restore_own(rig.tenant, INFO.id, by=BY))
    with pytest.raises(InvalidRequest):
        await rig.keeping.restore_own(rig.tenant, f"zeta/manifests/{INFO.id}", by=BY)
    assert ("tenants.restore", "failed: conflict") in await rig.lines()


async def test_the_schedule_begins_with_the_gateway(rig: Rig) -> None:
    directory = Directory()
    directory.publish(make_snapshot(rig.tenant))
    keeping = keep_backups(
        rig.service, directory=directory, clock=SystemClock(), audit=rig.audit, tasks=rig.tasks  # type: ignore[arg-type] # see above
    )  # fmt: skip
    assert len(rig.tasks) == 1
    await keeping.scheduled(rig.tenant)
    await keeping.verified(rig.tenant)
    page = await rig.audit.page(AuditQuery(action="tenants.*"))
    assert {line["actor"] for line in page.lines} == {"schedule"}
