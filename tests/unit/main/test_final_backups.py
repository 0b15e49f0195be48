from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.backup.catalogue import BackupInfo
from carrel.declare.backup import BackupConfig
from carrel.errors import CarrelError, StorageFull, Unavailable
from carrel.ids import TenantId
from carrel.main.final_backups import FinalBackups
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.tenants import make_snapshot, make_tenant


class Archive:
    async def make(self, tenant: Tenant) -> str:
        return f"archive of {tenant.id}"


class Service:
    def __init__(self) -> None:
        self.error: CarrelError | None = None
        self.forgotten: list[TenantId] = []

    def forget(self, tenant: TenantId) -> None:
        self.forgotten.append(tenant)

    async def final(self, tenant: Tenant) -> BackupInfo:
        if self.error is not None:
            raise self.error
        return BackupInfo(
            id="20260301T120000Z-0011aabb", at=datetime(2026, 3, 1, tzinfo=UTC), host="h", files=1, bytes=1, sent=1
        )


async def test_it_goes_where_backups_go_and_nowhere_else(tmp_path: Path) -> None:
    directory, tenant, service = Directory(), make_tenant(tmp_path), Service()
    made = FinalBackups(Archive(), directory=directory)
    directory.publish(make_snapshot(tenant))
    made.service = service
    assert await made.make(tenant) == "archive of acme"
    directory.publish(make_snapshot(tenant, backup=BackupConfig(to="file:///srv/backups")))
    assert await made.make(tenant) == "file:///srv/backups: acme 20260301T120000Z-0011aabb"
    made.forget(tenant.id)
    assert service.forgotten == [tenant.id]
    made.service = None
    with pytest.raises(Unavailable):
        await made.make(tenant)
    made.service, service.error = service, StorageFull("Full.")
    with pytest.raises(StorageFull):
        await made.make(tenant)
