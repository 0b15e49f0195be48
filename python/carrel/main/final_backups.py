"""Where the final backup of a tenant goes that is deleted: to the backups' place, else into an archive in the state."""

from typing import Protocol

from carrel.backup.catalogue import BackupInfo
from carrel.errors import Unavailable
from carrel.ids import TenantId
from carrel.reconcile.remover import FinalBackup
from carrel.tenancy.handle import Directory, Tenant


class LastOnes(Protocol):
    """Makes the last backup of a tenant."""

    async def final(self, tenant: Tenant) -> BackupInfo:
        """It, in the store, read back and whole; raises CarrelError."""
        ...

    def forget(self, tenant: TenantId) -> None:
        """The tenant is gone."""
        ...


class FinalBackups:
    """See `reconcile.remover.FinalBackup`. ``service`` is set once there is one."""

    def __init__(self, archive: FinalBackup, *, directory: Directory) -> None:
        self.service: LastOnes | None = None
        self._archive = archive
        self._directory = directory

    def forget(self, tenant: TenantId) -> None:
        """The tenant is gone, and has no next backup."""
        if self.service is not None:
            self.service.forget(tenant)

    async def make(self, tenant: Tenant) -> str:
        """Where it is. A declared place for backups that cannot be had is an error: nothing is deleted."""
        to = self._directory.current.gateway.backup.to
        if to is None:
            return await self._archive.make(tenant)
        if self.service is None:
            raise Unavailable("The gateway is still starting.")
        info = await self.service.final(tenant)
        return f"{to}: {tenant.id} {info.id}"
