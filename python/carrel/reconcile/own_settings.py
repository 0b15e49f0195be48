"""What a tenant sets for itself: its overlay, changed in place, in force when the change returns, or taken back."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from carrel.errors import InvalidRequest
from carrel.ids import TenantId
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.overlay import StateOverlays
from carrel.vcs.edits import edited
from carrel.wire.control import Actor


class Settles(Protocol):
    """Brings what was just written into force."""

    async def settled(self) -> object:
        """Return once it is."""
        ...


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line."""
        ...


class OwnSettings:
    """The overlays of all tenants; one change of a tenant's at a time."""

    def __init__(self, *, state_dir: Path, directory: Directory, reconciler: Settles, audit: Record) -> None:
        self._overlays = StateOverlays(state_dir)
        self._directory = directory
        self._reconciler = reconciler
        self._audit = audit
        self._locks: dict[TenantId, asyncio.Lock] = {}

    async def change(
        self, tenant_id: TenantId, changes: Mapping[tuple[str, ...], object], *, action: str, by: Actor
    ) -> Tenant:
        """Set keys of the overlay; the tenant as it is with them. Raises InvalidRequest where it would not be right."""
        lock = self._locks.setdefault(tenant_id, asyncio.Lock())
        async with lock:
            before = await asyncio.to_thread(self._overlays.read, tenant_id)
            text = await edited((before or b"").decode(), changes)
            shown = {".".join(path): value for path, value in changes.items()}
            await self._note(tenant_id, action, by, shown, "ok")
            await asyncio.to_thread(self._overlays.write, tenant_id, text.encode())
            await self._reconciler.settled()
            tenant = self._directory.current.tenant(tenant_id)
            if tenant.problem is None:
                return tenant
            problem = tenant.problem
            await asyncio.to_thread(self._overlays.write, tenant_id, before or b"")
            await self._reconciler.settled()
            await self._note(tenant_id, action, by, shown, "failed: invalid_request")
            raise InvalidRequest(f"That cannot be set: {problem}")

    async def _note(self, tenant_id: TenantId, action: str, by: Actor, after: object, outcome: str) -> None:
        await self._audit.record(
            actor=by.name, action=action, target=tenant_id, tenant=tenant_id, request_id=by.request_id, after=after,
            outcome=outcome,
        )  # fmt: skip
