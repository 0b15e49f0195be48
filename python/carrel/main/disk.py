"""What a tenant takes of the disk against its quotas of it, as the edges tell them."""

import asyncio
from collections.abc import Sequence
from functools import partial

from carrel.metering.account import QuotaState
from carrel.sandbox.protocol import Measured, Sandbox
from carrel.sandbox.snapshots import Snapshots
from carrel.tenancy.handle import Tenant


def from_threads(measured: Measured) -> Measured:
    """What a thread may tell of what it measured: ``measured`` is called on the loop that this is called on."""
    loop = asyncio.get_running_loop()

    def tell(tenant: Tenant, quota: str, used: int) -> None:
        loop.call_soon_threadsafe(partial(measured, tenant, quota, used))

    return tell


class DiskUse:
    """See `http.services.DiskUse`."""

    def __init__(self, *, sandbox: Sandbox, snapshots: Snapshots) -> None:
        self._sandbox = sandbox
        self._snapshots = snapshots

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        """Those that are declared. Only what one of them needs is measured."""
        quotas = tenant.config.quotas
        declared = [
            (name, quotas.count(name))
            for name in ("disk_bytes", "disk_files", "snapshots_bytes")
            if getattr(quotas, name) is not None
        ]
        used: dict[str, int] = {}
        if any(name.startswith("disk_") for name, _ in declared):
            used["disk_bytes"], used["disk_files"] = await self.taken(tenant)
        if any(name == "snapshots_bytes" for name, _ in declared):
            kept = await asyncio.to_thread(self._snapshots.list, tenant)
            used["snapshots_bytes"] = sum(one.bytes for one in kept)
        return [QuotaState(name, used[name], 0, limit.hard, limit.soft, None) for name, limit in declared]

    async def taken(self, tenant: Tenant) -> tuple[int, int]:
        """Bytes and entries of all its workspaces."""
        use = await self._sandbox.disk(tenant)
        return use.bytes, use.files
