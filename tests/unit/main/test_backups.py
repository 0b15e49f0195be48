"""Backups in the whole gateway: an audit line before each, and a tenant's own restore that outlives its request."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.log import Audit
from carrel.backup.archive import Header
from carrel.backup.archives import Moved, Sent
from carrel.backup.catalogue import BackupInfo
from carrel.backup.intake import TakenIn
from carrel.backup.moving import Exported
from carrel.backup.note import Note
from carrel.backup.restore import Restored
from carrel.backup.target import Reach
from carrel.clock import SystemClock
from carrel.errors import Conflict, InvalidRequest
from carrel.ids import RequestId, TenantId
from carrel.main.backups import BackupKeeping, TenantAtRest, keep_backups
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.wire import backups, control
from carrel.wire.control import AuditQuery
from tests.fakes.patience import eventually, soon
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.unit.metering.harness import USED, bench

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

    @property
    def archives(self) -> "Service":
        return self

    async def send(self, tenant: Tenant, to: str, *, replaces: bool, reach: Reach) -> Sent:
        if self.error is not None:
            raise self.error
        return Sent(to, AT, 9, "0" * 64, Exported(files=2, bytes=30, left_out=1))

    async def fetch(self, tenant: Tenant, place: str, *, dry_run: bool, **_: object) -> Moved:
        return Moved(self.taken(), tokens=True, dry_run=dry_run)

    async def look(self, tenant: TenantId, place: str, **_: object) -> TakenIn:
        return self.taken()

    @staticmethod
    def taken() -> TakenIn:
        return TakenIn(Header(tenant="acme", at=AT, carrel="1"), files=2, bytes=30, sessions=1)


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


async def test_an_archive_that_goes_to_a_place_or_comes_from_one_has_its_line_with_the_place(rig: Rig) -> None:
    place, reach = "s3://bucket/a/acme.tar.gz", Reach()
    sent = await rig.keeping.send(rig.tenant, backups.ExportOrder(to=place), by=BY, reach=reach)
    assert (sent.place, sent.bytes, sent.files, sent.content, sent.left_out) == (place, 9, 2, 30, 1)
    for dry_run in (True, False):
        order = backups.FetchOrder(place=place, dry_run=dry_run)
        taken = await rig.keeping.fetch(rig.tenant, order, by=BY, reach=reach)
        assert (taken.files, taken.tokens_left_out, taken.dry_run) == (2, True, dry_run)
    looked = await rig.keeping.look(backups.LookOrder(place=place, tenant="newco"), reach=reach)
    assert (looked.tenant, looked.source_tenant, looked.tokens_left_out, looked.dry_run) == (
        "newco",
        "acme",
        True,
        True,
    )
    rig.service.error = Conflict("There is one")
    with pytest.raises(Conflict):
        await rig.keeping.send(rig.tenant, backups.ExportOrder(to=place), by=BY, reach=reach)
    page = await rig.audit.page(AuditQuery(action="tenants.*"))
    assert [(line["action"], line["target"], line["outcome"]) for line in page.lines] == [
        ("tenants.export", place, "ok"), ("tenants.import", place, "ok"), ("tenants.export", place, "failed: conflict"),
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


class Part:
    """What else a tenant is in: each call is noted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def rest(self, tenant: TenantId, why: str = "") -> None:
        self.calls.append("rest")

    async def wake(self, tenant: TenantId) -> None:
        self.calls.append("wake")

    async def stop_tenant(self, tenant: TenantId) -> None:
        self.calls.append("stop")

    def reload(self, tenant: TenantId) -> None:
        self.calls.append("reload")

    def forget(self, tenant: TenantId) -> None:
        self.calls.append("forget")


def house(meter: Any, reconciler: Part, tmp_path: Path) -> TenantAtRest:
    other: Any = Part()
    told: Any = reconciler
    return TenantAtRest(
        meter=meter, reconciler=told, sandbox=other, sessions=other, tokens=other, grants=other, tenants_dir=tmp_path,
        home=tmp_path / "tenants",
    )  # fmt: skip


async def test_a_tenant_whose_ledger_is_broken_is_exchanged_for_another_and_wakes(tmp_path: Path) -> None:
    ledger, reconciler = tmp_path / "tenants/acme/usage/ledger.sqlite", Part()
    async with bench(tmp_path) as b:
        held = await b.hold(1)
        await b.call(2)
        await b.meter.forget(b.tenant.id)
        whole = ledger.read_bytes()
        ledger.write_bytes(b"no database, and no SQLite will say that it is one" * 100)
        await held.settle(USED, outcome="ok")
        async with house(b.meter, reconciler, tmp_path).at_rest(b.tenant):
            ledger.write_bytes(whole)
        assert reconciler.calls == ["rest", "wake"]
        assert sorted(row.request_id for row in await b.rows()) == ["req_1", "req_2"]


async def test_a_tenant_wakes_whatever_fails_before_it(tmp_path: Path) -> None:
    class Fails(Part):
        async def wake(self, tenant: TenantId) -> None:
            raise Conflict("no")

    tenant, reconciler = make_tenant(tmp_path), Part()
    with pytest.raises(Conflict):
        async with house(Fails(), reconciler, tmp_path).at_rest(tenant):
            pass
    assert reconciler.calls == ["rest", "wake"]
    tenant.root.close()
