"""What an operator does to kept sandboxes: real ones, and every change in the audit log before it happens."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from carrel.declare.tenant import SandboxMode
from carrel.errors import NotFound
from carrel.ids import RequestId, TenantId
from carrel.main.sandboxes import Sandboxes
from carrel.sandbox.modes import confinement_in, limits_in
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from carrel.wire import control
from tests.fakes.records import Noting
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant

BY = control.Actor("ak_ops", RequestId("req_1"))


class Lines(Noting):
    """An audit log that is a list."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        self.lines.append((action, target, outcome))


@pytest.fixture
async def rooms() -> AsyncIterator[tuple[Sandboxes, BwrapSandbox, Tenant, Lines]]:
    """Sandboxes of which acme keeps one."""
    sandbox, lines = BwrapSandbox(launch_uid=LAUNCH_UID), Lines()
    with reachable() as path:
        tenant = workspace_tenant(path)
        await sandbox.run(tenant, replace(shell("(sleep 0.1; echo background) &"), keep="main:sandbox"))
        yield Sandboxes(sandbox=sandbox, audit=lines), sandbox, tenant, lines  # type: ignore[arg-type]
        await sandbox.close()
        tenant.root.close()


Rooms = tuple[Sandboxes, BwrapSandbox, Tenant, Lines]


async def test_it_is_seen_and_runs_a_command_with_the_tenants_limits(rooms: Rooms) -> None:
    sandboxes, _, tenant, lines = rooms
    (view,) = sandboxes.list(None).sandboxes
    assert (view.tenant, view.agent, view.workspace, view.commands) == ("acme", "main", "sandbox", 1)
    assert sandboxes.list(TenantId("zeta")).sandboxes == ()
    done = await sandboxes.execute(
        tenant, view.id, control.SandboxExec(argv=("bash", "-c", "cat; ulimit -n; exit 3"), stdin="fed\n"), by=BY
    )
    assert (done.exit_code, done.stdout) == (3, f"fed\n{tenant.config.sandbox.open_files}\n")
    done = await sandboxes.execute(
        tenant, view.id, control.SandboxExec(argv=("sleep", "60"), timeout_seconds=0.2), by=BY
    )
    assert done.killed == "wall_clock"
    assert lines.lines == [("sandboxes.exec", view.id, "ok")] * 2


async def test_it_ends_once_and_only_by_its_own_tenants_name(rooms: Rooms) -> None:
    sandboxes, _, tenant, lines = rooms
    (view,) = sandboxes.list(None).sandboxes
    for wrong in ((TenantId("zeta"), view.id), (tenant.id, "sb_none")):
        with pytest.raises(NotFound):
            sandboxes.log(*wrong)
        with pytest.raises(NotFound):
            await sandboxes.stop(*wrong, by=BY)
    assert sandboxes.log(tenant.id, view.id).id == view.id
    await sandboxes.stop(tenant.id, view.id, by=BY)
    assert sandboxes.list(None).sandboxes == ()
    assert lines.lines == [("sandboxes.stop", view.id, "ok")]


async def test_a_command_sent_into_one_has_the_limits_of_its_mode(rooms: Rooms) -> None:
    sandboxes, runner, tenant, _ = rooms
    calm = SandboxMode(open_files=99)
    declared = tenant.config.sandbox.model_copy(update={"modes": {"calm": calm}})
    moded = replace(tenant, config=tenant.config.model_copy(update={"sandbox": declared}))
    job = replace(shell("true"), limits=limits_in(declared, "calm"), confinement=confinement_in(declared, "calm"))
    await runner.run(moded, replace(job, keep="other:sandbox"))
    one = next(view for view in sandboxes.list(tenant.id).sandboxes if view.agent == "other")
    order = control.SandboxExec(argv=("bash", "-c", "ulimit -n"))
    assert (await sandboxes.execute(moded, one.id, order, by=BY)).stdout == "99\n"
    assert one.id in {view.id for view in sandboxes.list(tenant.id).sandboxes}, "it was not started anew for that"
