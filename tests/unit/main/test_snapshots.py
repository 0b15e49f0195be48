"""Snapshots beside real sandboxes: a command that runs is not pulled from under its feet."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.errors import Conflict, NotFound
from carrel.ids import RequestId
from carrel.main.snapshots import SnapshotKeeping
from carrel.sandbox.runner import BwrapSandbox
from carrel.sandbox.snapshots import Snapshots
from carrel.tenancy.handle import Tenant
from carrel.wire import control
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant
from tests.unit.main.test_sandboxes import Lines

BY = control.Actor("ak_ops", RequestId("req_1"))
Rig = tuple[SnapshotKeeping, BwrapSandbox, Tenant, Lines, Path]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    sandbox, lines = BwrapSandbox(launch_uid=LAUNCH_UID), Lines()
    with reachable() as path:
        tenant = workspace_tenant(path)
        keeping = SnapshotKeeping(
            snapshots=Snapshots(clock=SystemClock(), removes=remove_workspace), sandbox=sandbox,
            audit=lines,  # type: ignore[arg-type] # all that it needs
        )  # fmt: skip
        yield keeping, sandbox, tenant, lines, path / "tenants/acme/sandbox"
        await sandbox.close()
        tenant.root.close()


async def test_there_and_back_with_a_line_for_each(rig: Rig) -> None:
    keeping, _, tenant, lines, workspace = rig
    (workspace / "file").write_text("good")
    made = await keeping.make(tenant, control.SnapshotOrder(label="x"), by=BY)
    (workspace / "file").write_text("bad")
    done = await keeping.roll_back(tenant, made.id, by=BY)
    assert (workspace / "file").read_text() == "good"
    assert [one.id for one in (await keeping.list(tenant)).snapshots] == [made.id, done.before.id]
    await keeping.remove(tenant, made.id, by=BY)
    with pytest.raises(NotFound):
        await keeping.roll_back(tenant, made.id, by=BY)
    assert [line[0] for line in lines.lines] == [
        "tenants.snapshot", "tenants.rollback", "tenants.snapshot.remove", "tenants.rollback", "tenants.rollback"
    ]  # fmt: skip


async def test_while_a_command_runs_nothing_is_exchanged(rig: Rig) -> None:
    keeping, sandbox, tenant, _, workspace = rig
    (workspace / "file").write_text("good")
    made = await keeping.make(tenant, control.SnapshotOrder(), by=BY)
    running = asyncio.ensure_future(sandbox.run(tenant, replace(shell("sleep 60"), keep="main:sandbox")))
    async with asyncio.timeout(60):
        while not any(one.running for one in sandbox.kept()):
            await asyncio.sleep(0.01)
    with pytest.raises(Conflict):
        await keeping.roll_back(tenant, made.id, by=BY)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(sandbox.kept()) == 1
    await keeping.roll_back(tenant, made.id, by=BY)
    assert sandbox.kept() == (), "a kept sandbox would go on in the workspace that was"
