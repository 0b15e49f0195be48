"""Who is backed up when."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from carrel.backup.note import Note
from carrel.backup.schedule import AGAIN, READ_AGAIN, Schedule, due_at, verify_at
from carrel.declare.backup import BackupConfig, TenantBackup
from carrel.errors import CarrelError
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_snapshot, make_tenant

DECLARED = BackupConfig(to="file:///x", every_seconds=3600.0, verify_every_seconds=86_400.0, concurrent=2)
HOUR = timedelta(hours=1)


def test_when_it_is_time(tmp_path: Path) -> None:
    now, tenant = FakeClock().now(), make_tenant(tmp_path)
    assert due_at(tenant, DECLARED, Note(), now) == now
    assert due_at(tenant, DECLARED, Note(last=now - HOUR / 2), now) == now + HOUR / 2
    assert due_at(tenant, DECLARED, Note(tried=now, failed="why"), now) == now + AGAIN
    assert due_at(tenant, DECLARED, Note(last=now, tried=now + HOUR, failed="why"), now + HOUR) == now + HOUR + AGAIN
    # A clock that was set back by a year does not stop backups for a year.
    ahead = now + timedelta(days=365)
    assert due_at(tenant, DECLARED, Note(last=ahead), now) == now
    assert due_at(tenant, DECLARED, Note(last=ahead, tried=ahead, failed="why"), now) == now
    assert due_at(tenant, DECLARED, Note(last=now + HOUR / 100), now) == now + HOUR / 100 + HOUR
    assert due_at(tenant, BackupConfig(), Note(), now) is None
    assert due_at(replace(tenant, removed=True), DECLARED, Note(), now) is None
    off = make_tenant(tmp_path, "zeta", backup=TenantBackup(enabled=False))
    assert due_at(off, DECLARED, Note(), now) is None
    for one in (tenant, off):
        one.root.close()


def test_when_it_is_read_back(tmp_path: Path) -> None:
    now, day, tenant = FakeClock().now(), timedelta(days=1), make_tenant(tmp_path)
    assert verify_at(tenant, DECLARED, Note(), now) is None
    assert verify_at(tenant, DECLARED, Note(last=now), now) == now
    assert verify_at(tenant, DECLARED, Note(last=now, verified=now), now) == now + day
    assert verify_at(tenant, DECLARED, Note(last=now, verified=now - day), now) == now
    assert verify_at(tenant, DECLARED, Note(last=now, verified=now + 9 * day), now) == now
    assert verify_at(tenant, BackupConfig(to="file:///x"), Note(last=now), now) is None
    assert verify_at(replace(tenant, removed=True), DECLARED, Note(last=now), now) is None
    tenant.root.close()


class Rig:
    def __init__(self, place: Path, *names: str) -> None:
        self.clock, self.notes = FakeClock(), dict.fromkeys(names, Note())
        self.tasks = Tasks("backups")
        self.held: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.broken: set[str] = set()
        self.damaged: set[str] = set()
        self.tenants = [make_tenant(place, name) for name in names]
        self.directory = Directory()
        self.directory.publish(make_snapshot(*self.tenants, backup=DECLARED))
        self.schedule = Schedule(
            directory=self.directory, clock=self.clock, tasks=self.tasks, note=self.note, back_up=self.back_up,
            verify=self.verify,
        )  # fmt: skip
        self.done: list[str] = []

    async def note(self, tenant: Tenant) -> Note:
        return self.notes[tenant.id]

    async def round(self) -> None:
        await self.schedule.round()
        await eventually(lambda: not len(self.tasks))

    async def _hold(self, what: str) -> None:
        self.begun.append(what)
        if what in self.held:
            await self.held[what].wait()

    async def back_up(self, tenant: Tenant) -> None:
        await self._hold(tenant.id)
        if tenant.id in self.broken:
            self.notes[tenant.id] = Note(tried=self.clock.now(), failed="why")
            raise CarrelError("why")
        self.notes[tenant.id] = self.notes[tenant.id].model_copy(update={"last": self.clock.now(), "failed": None})
        self.done.append(tenant.id)

    async def verify(self, tenant: Tenant) -> None:
        await self._hold(f"verify {tenant.id}")
        if tenant.id not in self.damaged:
            self.notes[tenant.id] = self.notes[tenant.id].model_copy(update={"verified": self.clock.now()})
        self.done.append(f"verify {tenant.id}")

    def close(self) -> None:
        for tenant in self.tenants:
            tenant.root.close()


async def test_each_in_its_time_and_a_failure_is_ones_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme", "zeta", "beta")
    rig.broken = {"zeta"}
    await rig.round()
    assert sorted(rig.done) == ["acme", "beta", "verify acme", "verify beta"]
    rig.done.clear()
    await rig.round()
    assert rig.done == []
    rig.broken.clear()
    rig.clock.advance(AGAIN.total_seconds())
    await rig.round()
    assert rig.done == ["zeta", "verify zeta"]
    rig.done.clear()
    rig.clock.advance(3600 - AGAIN.total_seconds())
    await rig.round()
    assert sorted(rig.done) == ["acme", "beta"]
    rig.close()


async def test_a_clock_that_is_set_back_stops_no_backups(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme")
    await rig.round()
    rig.clock.jump(-timedelta(days=400).total_seconds())
    rig.begun.clear()
    await rig.round()
    assert "acme" in rig.begun
    rig.begun.clear()
    await rig.round()
    assert rig.begun == []


async def test_what_others_back_up_is_read_back_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme", "never")
    rig.directory.publish(make_snapshot(*rig.tenants, backup=BackupConfig(verify_every_seconds=7 * 86_400.0)))
    rig.notes["acme"] = Note(last=rig.clock.now(), to="file:///x")
    await rig.round()
    await rig.round()
    assert rig.done == ["verify acme"]
    rig.clock.advance(7 * 86_400)
    await rig.round()
    assert rig.done == ["verify acme"] * 2
    rig.close()


async def test_what_cannot_be_read_back_is_not_read_again_at_once(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme")
    rig.directory.publish(make_snapshot(*rig.tenants, backup=BackupConfig(verify_every_seconds=7 * 86_400.0)))
    rig.notes["acme"] = Note(last=rig.clock.now(), to="file:///x")
    rig.damaged = {"acme"}
    for _ in range(3):
        await rig.round()
    assert rig.done == ["verify acme"]
    rig.clock.advance(READ_AGAIN.total_seconds())
    await rig.round()
    assert rig.done == ["verify acme"] * 2
    rig.close()


async def test_it_looks_again_and_again(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme")
    running = asyncio.ensure_future(rig.schedule.run())
    await eventually(lambda: rig.done.count("verify acme") == 1 and rig.clock.sleepers)
    rig.clock.advance(3600)
    await eventually(lambda: rig.done.count("acme") == 2)
    running.cancel()
    await asyncio.wait([running])
    rig.close()


async def test_one_that_takes_for_ever_holds_nobody_else_up_and_is_not_begun_twice(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme", "zeta", "beta")
    rig.held["acme"] = asyncio.Event()
    await rig.schedule.round()
    await eventually(lambda: len(rig.tasks) == 1)
    assert sorted(rig.done) == ["beta", "verify beta", "verify zeta", "zeta"]
    rig.clock.advance(3600)
    await rig.schedule.round()
    await eventually(lambda: len(rig.tasks) == 1)
    assert (rig.begun.count("acme"), rig.done.count("zeta"), rig.done.count("beta")) == (1, 2, 2)
    rig.held["acme"].set()
    await eventually(lambda: not len(rig.tasks))
    assert rig.done[-2:] == ["acme", "verify acme"]
    rig.close()


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_reading_back_never_takes_the_last_place(tmp_path: Path, places: int) -> None:
    names = [f"t{number}" for number in range(6)]
    rig = Rig(tmp_path, *names)
    rig.directory.publish(make_snapshot(*rig.tenants, backup=DECLARED.model_copy(update={"concurrent": places})))
    rig.held = {f"verify {name}": asyncio.Event() for name in names}
    await rig.schedule.round()
    await eventually(lambda: len(rig.done) == len(names) and len(rig.tasks) == max(places - 1, 1))
    # Those are being read for as long as it takes; everybody was backed up beside them.
    assert sorted(rig.done) == names
    assert sum(one.startswith("verify") for one in rig.begun) == max(places - 1, 1)
    for held in rig.held.values():
        held.set()
    await eventually(lambda: not len(rig.tasks))
    assert sum(one.startswith("verify") for one in rig.done) == len(names)
    rig.close()


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_no_more_are_backed_up_at_a_time_than_declared(tmp_path: Path, places: int) -> None:
    names = [f"t{number}" for number in range(6)]
    rig = Rig(tmp_path, *names)
    rig.directory.publish(make_snapshot(*rig.tenants, backup=DECLARED.model_copy(update={"concurrent": places})))
    rig.held = {name: asyncio.Event() for name in names}
    for _ in range(3):
        await rig.schedule.round()
    await eventually(lambda: len(rig.begun) == places)
    assert len(rig.tasks) == places
    rig.held[rig.begun[0]].set()
    # A place that is free is taken at once, and not at the next look.
    await eventually(lambda: sum(not one.startswith("verify") for one in rig.begun) == places + 1)
    await rig.tasks.close()
    assert len(rig.tasks) == 0
    assert len(rig.done) <= 2
    rig.close()


async def test_it_ends_with_its_tasks(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "acme", "zeta", "beta")
    rig.held = {name: asyncio.Event() for name in rig.notes}
    rig.tasks.start(rig.schedule.run(), name="schedule")
    await eventually(lambda: len(rig.begun) == 2)
    await rig.tasks.close()
    assert (len(rig.tasks), rig.done, len(rig.begun)) == (0, [], 2)
    rig.close()
