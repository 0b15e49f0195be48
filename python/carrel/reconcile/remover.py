"""Deletes tenants that were removed, once their time is over: a final backup first, and nothing without one.

Every step is written down before it is taken and may be taken again: a gateway that is killed in the middle goes on
where it was. What fails for one tenant holds up no other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

import structlog

from carrel.errors import CarrelError, InternalError
from carrel.ids import TenantId, new_request_id
from carrel.reconcile.recorder import Recorder
from carrel.reconcile.world import World
from carrel.store.sqlite import Worker
from carrel.tenancy.handle import Tenant
from carrel.tenancy.removal import remove_tree

_log = structlog.get_logger(__name__)


class FinalBackup(Protocol):
    """Keeps everything of a tenant before it is deleted."""

    async def make(self, tenant: Tenant) -> str:
        """Where the backup is, once it was read back and is whole; raises CarrelError, and then nothing is deleted."""
        ...


class Remover:
    """Carries deletions out for one reconciler. ``release`` has everything let go that is open of a tenant."""

    def __init__(
        self,
        *,
        worker: Worker,
        backup: FinalBackup,
        release: Callable[[Tenant], Awaitable[None]] | None = None,
        audit: Recorder | None = None,
    ) -> None:
        self._worker = worker
        self._backup = backup
        self._release = release
        self._audit = audit

    async def delete(self, world: World, tenant: TenantId, lock: asyncio.Lock) -> bool:
        """Take the deletion of one tenant as far as it goes; whether it is gone. Raises nothing for what fails."""
        try:
            return await self._delete(world, tenant, lock)
        except CarrelError as error:
            failure = error
        except Exception:  # noqa: BLE001 - the root of one tenant's deletion: the others go on
            _log.exception("a deletion failed", tenant=tenant)
            failure = InternalError("A fault of Carrel's own; the log has it.")
        _log.error("a removed tenant is not deleted", tenant=tenant, reason=failure.message)
        await self._worker.run(lambda: world.failed_deletion(tenant, failure))
        return False

    async def _delete(self, world: World, tenant: TenantId, lock: asyncio.Lock) -> bool:
        begun = await self._worker.run(lambda: world.begin_deletion(tenant))
        if begun is None:
            return False
        held, backup = begun
        if self._release is not None:
            await self._release(held)
        if not backup:
            backup = await self._backup.make(held)
        async with lock:
            if await self._worker.run(lambda: world.tenant(tenant)) is not held:
                return False
            async with self._deleting(tenant, backup):
                path = await self._worker.run(lambda: world.finish_deletion(tenant, backup))
                gone = await self._worker.run(lambda: world.tenant(tenant)) is None
        if path is not None:
            await self.sweep(world)
        if gone:
            _log.info("a removed tenant was deleted", tenant=tenant, backup=backup)
        return gone

    def _deleting(self, tenant: TenantId, backup: str) -> AbstractAsyncContextManager[None]:
        if self._audit is None:
            return nullcontext()
        return self._audit.change(
            actor="carrel",
            action="tenants.delete",
            target=tenant,
            tenant=tenant,
            request_id=new_request_id(),
            after={"backup": backup},
        )

    async def sweep(self, world: World) -> None:
        """Remove what deletions left that were cut off."""
        for path in await asyncio.to_thread(world.places.left):
            try:
                await asyncio.to_thread(remove_tree, path)
            except CarrelError as error:
                _log.error("what is left of a deleted tenant cannot be removed", name=path.name, reason=error.message)
