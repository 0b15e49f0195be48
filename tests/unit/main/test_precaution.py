"""Snapshots before a message: made where something changed and it is cheap, and never in anybody's way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.agents.workspace import remove_workspace
from carrel.clock import SystemClock
from carrel.errors import StorageFull
from carrel.main import precaution
from carrel.main.precaution import Precautions
from carrel.sandbox.snapshots import Snapshot, Snapshots
from carrel.sandbox.tree import Limits
from carrel.tenancy.handle import Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.sandbox import FakeSandbox
from tests.fakes.tenants import make_tenant


class Rig:
    def __init__(self, state: Path) -> None:
        self.tenant = make_tenant(state)
        self.workspace = state / "tenants/acme/sandbox"
        self.workspace.mkdir(parents=True)
        self.snapshots = Snapshots(clock=SystemClock(), removes=remove_workspace)
        self.sandbox = FakeSandbox()
        self.clock = FakeClock()
        self.precautions = Precautions(snapshots=self.snapshots, sandbox=self.sandbox, clock=self.clock)
        self.told: list[str] = []

    def limit(self, **limits: int) -> None:
        sandbox = self.tenant.config.sandbox.model_copy(update=limits)
        self.tenant = replace(self.tenant, config=self.tenant.config.model_copy(update={"sandbox": sandbox}))

    async def take(self) -> list[Snapshot]:
        await self.precautions.before(self.tenant, "sandbox", label="session one", told=self.told.append)
        return self.snapshots.list(self.tenant)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.precautions.close()
    made.tenant.root.close()


async def test_one_is_made_for_each_change_and_no_more(rig: Rig) -> None:
    assert await rig.take() == [], "there is nothing to lose"
    (rig.workspace / "file").write_text("one")
    (made,) = await rig.take()
    assert (made.why, made.label) == ("before_turn", "session one")
    assert await rig.take() == [made]
    rig.limit(snapshots_automatic=2)
    for number in range(4):
        (rig.workspace / f"file-{number}").write_text("more")
        taken = await rig.take()
    assert len(taken) == 2
    assert rig.told == []


@pytest.mark.parametrize("limit", ["snapshot_bytes", "snapshot_copy_bytes"])
async def test_what_is_too_large_is_told_once_and_stops_nothing(rig: Rig, limit: str) -> None:
    (rig.workspace / "large").write_bytes(b"x" * 100_000)
    rig.limit(**{limit: 1000})
    for _ in range(3):
        assert await rig.take() == []
    assert len(rig.told) == 1
    assert "over 1000 bytes" in rig.told[0]
    rig.limit(**{limit: 1 << 30})
    assert len(await rig.take()) == 1
    (rig.workspace / "more").touch()
    rig.limit(**{limit: 900})
    await rig.take()
    assert len(rig.told) == 1, "the same reason with other numbers, on the same day"
    rig.clock.advance(86_401)
    await rig.take()
    await rig.take()
    assert len(rig.told) == 2
    assert f"(sandbox.{limit})" in rig.told[-1]


async def test_many_entries_and_what_takes_too_long_are_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (rig.workspace / f"file-{number}").touch()
    monkeypatch.setattr(precaution, "ENTRIES", 3)
    assert await rig.take() == []
    assert "over 3 entries" in rig.told[-1]
    monkeypatch.setattr(precaution, "ENTRIES", 100)
    monkeypatch.setattr(precaution, "SECONDS", 0.0)
    real, entered = rig.snapshots.changed, asyncio.get_running_loop().create_future()

    def slow(tenant: Tenant, workspace: str, limits: Limits) -> bool:
        while limits.going():
            pass
        entered.get_loop().call_soon_threadsafe(entered.set_result, None)
        return real(tenant, workspace, limits)

    monkeypatch.setattr(rig.snapshots, "changed", slow)
    assert await rig.take() == []
    await entered
    assert "took over" in rig.told[-1]


async def test_a_full_disk_is_told_and_stops_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Snapshot:
        raise StorageFull("The disk is full.")

    (rig.workspace / "file").touch()
    monkeypatch.setattr(rig.snapshots, "make", full)
    assert await rig.take() == []
    assert "The disk is full." in rig.told[0]


async def test_while_another_works_there_it_is_left_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.workspace / "file").touch()
    busy: Callable[..., bool] = lambda tenant, workspace: workspace == "sandbox"  # noqa: E731 - a fake's answer
    monkeypatch.setattr(rig.sandbox, "busy", busy)
    assert await rig.take() == []
    assert rig.told == []
