"""What a tenant sets for itself: its overlay, changed in place, in force when the change returns, or taken back."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

from carrel.declare.document import Unreadable, read
from carrel.errors import Conflict, InvalidRequest
from carrel.ids import TenantId
from carrel.reconcile.recorder import Recorder
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.overlay import StateOverlays
from carrel.vcs.edits import edited
from carrel.wire.control import Actor


class Settles(Protocol):
    """Brings what was just written into force."""

    async def settled(self) -> object:
        """Return once it is."""
        ...


class ConfigChanged(Conflict):
    """The configuration is another one than the caller has seen."""

    code = "config_changed"


Changes = Mapping[tuple[str, ...], object]


class OwnSettings:
    """The overlays of all tenants; one change of a tenant's at a time."""

    def __init__(self, *, state_dir: Path, directory: Directory, reconciler: Settles, audit: Recorder) -> None:
        self._overlays = StateOverlays(state_dir)
        self._directory = directory
        self._reconciler = reconciler
        self._audit = audit
        self._locks: WeakValueDictionary[TenantId, asyncio.Lock] = WeakValueDictionary()

    async def overlay(self, tenant_id: TenantId) -> dict[str, Any]:
        """What the overlay says now; raises InvalidRequest where it is not YAML of ours."""
        return _values(await asyncio.to_thread(self._overlays.read, tenant_id))

    async def change(
        self,
        tenant_id: TenantId,
        changes: Changes | Callable[[dict[str, Any]], Changes],
        *,
        action: str,
        by: Actor,
        base: str | None = None,
    ) -> Tenant:
        """Set keys of the overlay; the tenant as it is with them. Raises InvalidRequest where it would not be right.

        ``changes`` may be made of the overlay as it then is. ``base`` is the revision that the caller has seen: raises
        ConfigChanged where it is another one by now.
        """
        lock = self._locks.setdefault(tenant_id, asyncio.Lock())
        async with lock:
            if base is not None and (now := self._directory.current.tenant(tenant_id).revision) != base:
                raise ConfigChanged(
                    "The configuration has changed: get it anew, then change it.", details={"hash": now}
                )
            before = await asyncio.to_thread(self._overlays.read, tenant_id)
            if callable(changes):
                changes = changes(_values(before))
            text = await edited((before or b"").decode(), changes)
            shown = {".".join(path): value for path, value in changes.items()}
            async with self._audit.change(
                actor=by.name, action=action, target=tenant_id, tenant=tenant_id, request_id=by.request_id,
                before=_before(before, changes), after=shown,
            ):  # fmt: skip
                return await self._set(tenant_id, before, text)

    async def _set(self, tenant_id: TenantId, before: bytes | None, text: str) -> Tenant:
        await asyncio.to_thread(self._overlays.write, tenant_id, text.encode())
        await self._reconciler.settled()
        tenant = self._directory.current.tenant(tenant_id)
        if tenant.problem is None:
            return tenant
        problem = tenant.problem
        await asyncio.to_thread(self._overlays.write, tenant_id, before or b"")
        await self._reconciler.settled()
        raise InvalidRequest(f"That cannot be set: {problem}")


def _before(data: bytes | None, changes: Changes) -> dict[str, Any] | None:
    """What was set where ``changes`` are made; None where nothing was."""
    found: dict[str, Any] = {}
    try:
        values = _values(data)
    except InvalidRequest:
        return None
    for path in changes:
        value: Any = values
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            found[".".join(path)] = value
    return found or None


def _values(data: bytes | None) -> dict[str, Any]:
    try:
        return read((data or b"").decode()).values
    except (Unreadable, UnicodeDecodeError) as error:
        raise InvalidRequest("The tenant's config.yaml is not YAML as it should be: mend or remove it.") from error
