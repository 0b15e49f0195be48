"""Snapshots beside real sandboxes: a command that runs is not pulled from under its feet."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.declare.tenant import Member
from carrel.errors import Conflict, InvalidRequest, NotFound, SandboxUnavailable
from carrel.ids import RequestId
from carrel.main import snapshots
from carrel.main.snapshots import SnapshotKeeping
from carrel.sandbox.runner import BwrapSandbox
from carrel.sandbox.snapshots import Snapshots
from carrel.tenancy.handle import Tenant
from carrel.wire import control
from tests.fakes.patience import PATIENCE, eventually
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
        "tenants.snapshot", "tenants.rollback", "tenants.snapshot.remove", "tenants.rollback"
    ]  # fmt: skip


async def test_a_kept_sandbox_is_stopped_with_its_command_and_begins_anew_in_what_is_there_now(rig: Rig) -> None:
    keeping, sandbox, tenant, _, workspace = rig
    (workspace / "file").write_text("good")
    made = await keeping.make(tenant, control.SnapshotOrder(), by=BY)
    bricks = "rm -rf /workspace/*; sleep 60"
    running = asyncio.ensure_future(sandbox.run(tenant, replace(shell(bricks), keep="main:sandbox")))
    async with asyncio.timeout(PATIENCE):
        while (workspace / "file").exists():
            await asyncio.sleep(0.01)
    await keeping.roll_back(tenant, made.id, by=BY)
    assert sandbox.kept() == ()
    with contextlib.suppress(SandboxUnavailable):
        assert (await running).exit_code != 0
    assert (workspace / "file").read_text() == "good"
    if LAUNCH_UID is not None:
        os.chown(workspace, LAUNCH_UID, LAUNCH_UID)
    done = await sandbox.run(tenant, replace(shell("ls"), keep="main:sandbox"))
    assert done.stdout == b"file\n"


async def test_while_a_command_runs_in_a_sandbox_of_its_own_nothing_is_exchanged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SETTLE_SECONDS", 0.2)
    keeping, sandbox, tenant, _, workspace = rig
    (workspace / "file").write_text("good")
    made = await keeping.make(tenant, control.SnapshotOrder(), by=BY)
    running = asyncio.ensure_future(sandbox.run(tenant, shell("touch mark; sleep 60")))
    await eventually((workspace / "mark").exists)
    with pytest.raises(Conflict):
        await keeping.roll_back(tenant, made.id, by=BY)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await keeping.roll_back(tenant, made.id, by=BY)
    assert [path.name for path in workspace.iterdir()] == ["file"]


async def test_of_whom_a_snapshot_is(rig: Rig) -> None:
    keeping, _, tenant, _, _ = rig
    people = tenant.config.model_copy(update={"members": (Member(name="ada"),)})
    tenant = replace(tenant, config=people)
    tenant.root.directory("sandbox.d/member-ada", create=True).close()
    made = await keeping.make(tenant, control.SnapshotOrder(member="ada"), by=BY)
    assert (made.workspace, made.why) == ("sandbox.d/member-ada", "asked")
    with pytest.raises(NotFound, match="session-none yet"):
        await keeping.make(tenant, control.SnapshotOrder(session="none"), by=BY)
    for wrong in (control.SnapshotOrder(member="adda"), control.SnapshotOrder(member="ada", session="s")):
        with pytest.raises(InvalidRequest):
            await keeping.make(tenant, wrong, by=BY)
