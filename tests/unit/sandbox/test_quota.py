"""A tenant's quota of the disk, with real commands: what goes over it is ended, and who is over may delete."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.quotas import Quotas
from carrel.errors import DiskQuotaExceeded
from carrel.sandbox import quota
from carrel.sandbox.runner import BwrapSandbox
from carrel.sandbox.usage import Use, measure
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot
from tests.fakes.groups import delegated
from tests.fakes.patience import PATIENCE, eventually, soon
from tests.fakes.sandboxed import LAUNCH_UID, InWorker, reachable, shell, workspace_tenant

MIB = 1 << 20


@pytest.fixture
def state() -> Iterator[Path]:
    with reachable() as path:
        yield path


def tenant_of(state: Path, name: str = "acme", **quotas: object) -> Tenant:
    made = workspace_tenant(state, name)
    config = made.config.model_copy(update={"quotas": Quotas.model_validate(quotas)})
    return replace(made, config=config)


async def test_who_goes_over_is_ended_and_another_is_not(runner: BwrapSandbox, state: Path) -> None:
    greedy, quiet = tenant_of(state, disk_bytes=8 * MIB), tenant_of(state, "quiet", disk_bytes=8 * MIB)
    fill = "i=0; while :; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); sleep 0.02; done"
    filling = asyncio.ensure_future(runner.run(greedy, shell(fill, wall_seconds=600)))
    while not filling.done():
        done = await runner.run(quiet, shell("head -c 1000000 /dev/zero > f; echo fine"))
        assert (done.stdout, done.killed) == (b"fine\n", None)
    assert (await filling).killed == "disk_quota"
    for tenant in (greedy, quiet):
        tenant.root.close()


async def test_within_it_nothing_is_noticed(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes=8 * MIB, disk_files=100)
    done = await runner.run(tenant, shell("head -c 7000000 /dev/zero > f; sleep 1; for i in 1 2 3; do : > g$i; done"))
    assert (done.exit_code, done.killed, done.note) == (0, None, "")
    # Names of one file, and holes, are not counted again.
    done = await runner.run(tenant, shell("for i in 1 2 3 4 5 6 7; do ln f h$i; done; truncate -s 1G hole; sleep 1"))
    assert (done.exit_code, done.killed, done.note) == (0, None, "")
    tenant.root.close()


async def test_files_are_counted_too(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_files=200)
    many = "i=0; while :; do : > f$i; i=$((i+1)); [ $((i % 20)) != 0 ] || sleep 0.05; done"
    done = await runner.run(tenant, shell(many, wall_seconds=600))
    assert done.killed == "inode_quota"
    tidied = await runner.run(tenant, shell("rm -f f*; ls | wc -l"))
    assert (tidied.stdout, tidied.exit_code) == (b"0\n", 0)
    assert "quotas.disk_files" in tidied.note
    assert (await runner.run(tenant, shell("echo more > f; cat f"))).note == ""
    tenant.root.close()


async def test_who_is_over_may_delete_and_not_write(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes={"hard": 4 * MIB, "soft": MIB})
    (state / "tenants" / "acme" / "sandbox" / "big").write_bytes(bytes(6 * MIB))
    if LAUNCH_UID is not None:
        os.chown(state / "tenants" / "acme" / "sandbox" / "big", LAUNCH_UID, LAUNCH_UID)
    refused = await runner.run(tenant, shell("echo x > f"))
    assert refused.killed == "disk_quota"
    assert "of 4194304 (quotas.disk_bytes)" in refused.note
    read = await runner.run(tenant, shell("wc -c < big; sleep 1; echo still here"))
    assert read.stdout == b"6291456\nstill here\n", "reading is no matter of the quota"
    deleted = await runner.run(tenant, shell("rm big && echo gone"))
    assert (deleted.stdout, deleted.exit_code) == (b"gone\n", 0)
    assert (await runner.run(tenant, shell("echo x > f; cat f"))).stdout == b"x\n"
    tenant.root.close()


async def test_what_the_gateway_writes_itself_is_counted(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes=4 * MIB)
    await runner.room(tenant, 3 * MIB)
    (state / "tenants" / "acme" / "sandbox" / "f").write_bytes(bytes(3 * MIB))
    with pytest.raises(DiskQuotaExceeded, match=r"2097152 bytes more do not fit.*`rm` in the shell"):
        await runner.room(tenant, 2 * MIB)
    await runner.room(replace(tenant, config=tenant.config.model_copy(update={"quotas": Quotas()})), 1 << 40)
    tenant.root.close()


async def test_a_soft_quota_is_told_and_ends_nothing(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes={"soft": MIB})
    done = await runner.run(tenant, shell("head -c 3000000 /dev/zero > f; sleep 1; echo done"))
    assert done.stdout == b"done\n"
    after = await runner.run(tenant, shell("echo more >> f && echo fine"))
    assert (after.stdout, after.killed) == (b"fine\n", None)
    assert "of 1048576 (the soft limit of quotas.disk_bytes)" in after.note
    tenant.root.close()


async def test_only_the_workspace_that_grew_loses_its_command(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes=6 * MIB)
    own = tenant.root.directory("sandbox.d/member-ann", create=True)
    if LAUNCH_UID is not None:
        os.fchown(own.fd, LAUNCH_UID, LAUNCH_UID)
        (state / "tenants" / "acme" / "sandbox.d").chmod(0o711)
    own.close()
    shown = asyncio.Event()
    quiet = replace(shell("echo begun; read -r _ < <(sleep 600); echo lived", wall_seconds=600),
                    workspace="sandbox.d/member-ann")  # fmt: skip
    waiting = asyncio.ensure_future(runner.run(tenant, quiet, on_output=lambda _: shown.set()))
    await soon(shown.wait())
    fill = "i=0; while :; do head -c 1000000 /dev/zero > f$i; i=$((i+1)); sleep 0.02; done"
    assert (await runner.run(tenant, shell(fill, wall_seconds=600))).killed == "disk_quota"
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    tenant.root.close()


async def test_between_commands_a_kept_sandbox_is_looked_at_too(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "IDLE_SECONDS", 0.3)
    runner = InWorker(launch_uid=LAUNCH_UID)
    tenant = tenant_of(state, disk_bytes=6 * MIB)
    fill = "(sleep 1; while :; do head -c 500000 /dev/zero >> f; sleep 0.5; done) > /dev/null 2>&1 &"
    assert (await runner.run(tenant, shell(fill))).exit_code == 0
    async with asyncio.timeout(PATIENCE):
        while runner.kept():
            await asyncio.sleep(0.05)
    assert (state / "tenants" / "acme" / "sandbox" / "f").stat().st_size < 40 * MIB
    await runner.close()
    tenant.root.close()


async def test_a_tenant_that_goes_meanwhile_takes_nothing_with_it(runner: BwrapSandbox, state: Path) -> None:
    tenant = tenant_of(state, disk_bytes=6 * MIB)
    shown = asyncio.Event()
    running = asyncio.ensure_future(
        runner.run(tenant, shell("echo begun; sleep 1; echo ended"), on_output=lambda _: shown.set())
    )
    await soon(shown.wait())
    tenant.root.close()
    assert (await running).stdout == b"begun\nended\n"
    other = tenant_of(state, "other", disk_bytes=6 * MIB)
    assert (await runner.run(other, shell("echo fine"))).stdout == b"fine\n"
    other.root.close()


async def test_near_the_limit_it_is_looked_at_more_often() -> None:
    assert quota.look_after(10 << 30) == quota.LOOK_SECONDS[1]
    assert quota.look_after(quota.FASTEST // 32) == 1 / 32
    assert quota.look_after(0) == quota.look_after(-1) == quota.LOOK_SECONDS[0]


async def test_it_stands_still_while_it_is_walked_whether_it_is_over(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PAUSE", (600.0, 600.0))
    seen: list[str] = []
    with delegated() as groups:
        tenant = tenant_of(state, disk_bytes=8 * MIB)

        def walk(root: TenantRoot) -> dict[str, Use]:
            with contextlib.suppress(OSError):
                seen.append(Path(groups.path, "tenants/acme/cgroup.freeze").read_text())
            return measure(root)

        monkeypatch.setattr(quota, "measure", walk)
        runner = BwrapSandbox(launch_uid=LAUNCH_UID, groups=groups)
        fill = "echo on; until [ -e go ]; do sleep 0.05; done; while :; do head -c 9000000 /dev/zero >> f; done"
        shown = asyncio.Event()
        filling = asyncio.ensure_future(
            runner.run(tenant, shell(fill, wall_seconds=300), on_output=lambda _: shown.set())
        )
        await asyncio.wait_for(shown.wait(), 60)
        share, clock = runner._disk._shares[tenant.id], asyncio.get_running_loop()
        # It stands still for half of the time at most: by now it has gone on as long as the last walk took.
        await eventually(lambda: clock.time() - share.at > share.took)
        (state / "tenants/acme/sandbox/go").touch()
        done = await filling
        assert done.killed == "disk_quota"
        assert "1\n" in seen
        assert (await runner.run(tenant, shell("rm f; echo goes on"))).stdout == b"goes on\n"
        await runner.close()
        tenant.root.close()


async def test_what_is_taken_is_known_without_a_quota_too(
    runner: BwrapSandbox, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "PAUSE", (600.0, 600.0))
    tenant = tenant_of(state)
    (state / "tenants/acme/sandbox/f").write_bytes(bytes(3 * MIB))
    taken = await runner.disk(tenant)
    assert (taken.bytes >= 3 * MIB, taken.files) == (True, 1)
    (state / "tenants/acme/sandbox/g").touch()
    assert (await runner.disk(tenant)).files == 1, "asked again at once it is not walked again"
    tenant.root.close()
