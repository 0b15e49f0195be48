"""What the quotas of the disk say, from real files and real snapshots."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.declare.quotas import Quotas
from carrel.main.disk import DiskUse, from_threads
from carrel.sandbox.snapshots import Snapshots
from carrel.sandbox.tree import Limits
from carrel.tenancy.handle import Tenant
from tests.fakes.sandbox import FakeSandbox
from tests.fakes.tenants import make_tenant


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    made.root.directory("sandbox", create=True).close()
    (tmp_path / "tenants/acme/sandbox/file").write_bytes(b"x" * 8192)
    yield made
    made.root.close()


async def test_what_is_declared_is_told_with_what_is_taken(tenant: Tenant) -> None:
    snapshots = Snapshots(clock=SystemClock(), removes=remove_workspace)
    disk = DiskUse(sandbox=FakeSandbox(), snapshots=snapshots)
    assert await disk.quota_status(tenant) == []
    snapshots.make(tenant, "sandbox", Limits(1 << 30), keep=3)
    quotas = Quotas.model_validate({"disk_bytes": {"soft": 4096}, "snapshots_bytes": 100_000})
    limited = replace(tenant, config=tenant.config.model_copy(update={"quotas": quotas}))
    states = await disk.quota_status(limited)
    assert [(one.name, one.used, one.hard, one.soft) for one in states] == [
        ("disk_bytes", 8192, None, 4096), ("snapshots_bytes", 8192, 100_000, None)
    ]  # fmt: skip
    assert await disk.taken(tenant) == (8192, 1)


async def test_a_snapshot_tells_what_all_take_where_a_soft_quota_wants_to_know(tenant: Tenant) -> None:
    told: list[tuple[str, str, int]] = []
    heard = asyncio.Event()

    def measured(whose: Tenant, quota: str, used: int) -> None:
        told.append((whose.id, quota, used))
        heard.set()

    snapshots = Snapshots(clock=SystemClock(), removes=remove_workspace, measured=from_threads(measured))
    await asyncio.to_thread(snapshots.make, tenant, "sandbox", Limits(1 << 30), keep=3)
    quotas = Quotas.model_validate({"snapshots_bytes": {"soft": 4096}})
    limited = replace(tenant, config=tenant.config.model_copy(update={"quotas": quotas}))
    await asyncio.to_thread(snapshots.make, limited, "sandbox", Limits(1 << 30), keep=3)
    await heard.wait()
    assert told == [("acme", "snapshots_bytes", 16_384)], "and where none does nothing is added up"
