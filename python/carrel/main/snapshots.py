"""Snapshots of workspaces as an operator has them: made, listed, gone back to; each change in the audit log."""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

from carrel.agents.workspace import TENANT_WORKSPACE, member_workspace, session_workspace
from carrel.audit.log import Audit
from carrel.errors import Conflict, InvalidRequest, NotFound
from carrel.ids import SessionId
from carrel.sandbox.protocol import Sandbox
from carrel.sandbox.snapshots import Snapshot, Snapshots
from carrel.sandbox.tree import Limits
from carrel.tenancy.handle import Tenant
from carrel.wire import control

T = TypeVar("T")
SETTLE_SECONDS: Final = 5.0
"""How long commands that were stopped have to be gone."""


class SnapshotKeeping:
    """See `http.services.SnapshotKeeping`."""

    def __init__(self, *, snapshots: Snapshots, sandbox: Sandbox, audit: Audit) -> None:
        self._snapshots = snapshots
        self._sandbox = sandbox
        self._audit = audit

    async def list(self, tenant: Tenant) -> control.SnapshotList:
        """All of a tenant's, oldest first."""
        found = await asyncio.to_thread(self._snapshots.list, tenant)
        return control.SnapshotList(snapshots=tuple(map(_view, found)))

    async def make(self, tenant: Tenant, order: control.SnapshotOrder, *, by: control.Actor) -> control.SnapshotView:
        """Copy a workspace as it is now; a command that writes meanwhile is in it half or whole."""
        workspace = _named(tenant, order)
        limits = tenant.config.sandbox

        def work() -> Snapshot:
            most = Limits(limits.snapshot_bytes)
            try:
                return self._snapshots.make(tenant, workspace, most, label=order.label, keep=limits.snapshots)
            except NotFound as error:
                raise NotFound(f"There is no workspace {workspace} yet: nothing was ever run in it.") from error

        return _view(await self._noted("tenants.snapshot", tenant, workspace, by, work))

    async def roll_back(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> control.RolledBack:
        """Put a snapshot in its workspace's place. Kept sandboxes there are stopped, with the commands in them.

        Raises Conflict where a command runs there in a sandbox of its own.
        """
        chosen = next(
            (one for one in await asyncio.to_thread(self._snapshots.list, tenant) if one.id == snapshot_id), None
        )
        if chosen is not None:
            await self._cleared(tenant, chosen.workspace)
        limits = tenant.config.sandbox

        def work() -> tuple[Snapshot, Snapshot]:
            return self._snapshots.roll_back(
                tenant, snapshot_id, keep=limits.snapshots, most_bytes=limits.snapshot_bytes
            )

        to, before = await self._noted("tenants.rollback", tenant, snapshot_id, by, work)
        # One that began meanwhile is in the directory that was the workspace: its next command is to be in this one.
        await self._stopped(tenant, to.workspace)
        return control.RolledBack(to=_view(to), before=_view(before))

    async def remove(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> None:
        """Forget one."""
        await self._noted(
            "tenants.snapshot.remove", tenant, snapshot_id, by, lambda: self._snapshots.remove(tenant, snapshot_id)
        )

    async def _cleared(self, tenant: Tenant, workspace: str) -> None:
        await self._stopped(tenant, workspace)
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
        while self._sandbox.busy(tenant.id, workspace):
            if asyncio.get_running_loop().time() > deadline:
                raise Conflict("A command runs in that workspace now: wait for its end, and try again.")
            await asyncio.sleep(0.05)

    async def _stopped(self, tenant: Tenant, workspace: str) -> None:
        for one in self._sandbox.kept():
            if one.tenant == tenant.id and one.name.partition(":")[2] == workspace:
                with contextlib.suppress(NotFound):
                    await self._sandbox.stop(one.id)

    async def _noted(
        self, action: str, tenant: Tenant, target: str, by: control.Actor, work: Callable[[], T]
    ) -> T:  # fmt: skip
        async with self._audit.change(
            actor=by.name, action=action, target=target[:100], tenant=tenant.id, request_id=by.request_id
        ):
            return await asyncio.to_thread(work)


def _named(tenant: Tenant, order: control.SnapshotOrder) -> str:
    """The workspace that ``order`` is about; raises InvalidRequest."""
    if order.member is not None:
        if order.session is not None:
            raise InvalidRequest("A workspace is a member's or a session's: name one of them.", param="member")
        tenant.as_member(order.member)
        return member_workspace(order.member)
    return TENANT_WORKSPACE if order.session is None else session_workspace(SessionId(order.session))


def _view(snapshot: Snapshot) -> control.SnapshotView:
    return control.SnapshotView(
        id=snapshot.id, workspace=snapshot.workspace, label=snapshot.label,
        made=datetime.fromisoformat(snapshot.made), files=snapshot.files,
        bytes=snapshot.bytes, left_out=snapshot.left_out, why=snapshot.why,
    )  # fmt: skip
