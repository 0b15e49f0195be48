import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.errors import CarrelError, StorageFull
from carrel.ids import TenantId
from carrel.reconcile.record import Record
from carrel.reconcile.remover import Remover
from carrel.reconcile.world import World
from carrel.store.sqlite import Worker
from carrel.tenancy.handle import Tenant
from tests.fakes.declarations import declare

ACME = TenantId("acme")


class Backup:
    """Keeps names, or fails."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.error: Exception | None = None
        self.meanwhile: asyncio.Event | None = None

    async def make(self, tenant: Tenant) -> str:
        if self.meanwhile is not None:
            await self.meanwhile.wait()
        if self.error is not None:
            raise self.error
        self.made.append(tenant.id)
        return f"backup of {tenant.id}"


class House:
    def __init__(self, home: Path) -> None:
        self.path = declare(home / "tenants.d", acme="", other="")
        (home / "state").mkdir()
        self.record = Record.open(home / "state")
        self.world = World(self.path, home / "state", self.record)
        self.world.start()
        self.worker, self.backup, self.released = Worker("test"), Backup(), list[str]()
        self.data = home / "state" / "tenants" / "acme"
        (self.data / "kept").write_text("x")
        self.remover = Remover(worker=self.worker, backup=self.backup, release=self.release)
        self.lock = asyncio.Lock()

    async def release(self, tenant: Tenant) -> None:
        self.released.append(tenant.id)

    def write(self, text: str | None) -> None:
        file = self.path / "acme.yaml"
        file.unlink() if text is None else file.write_text(text)
        self.world.refresh(self.world.loader.changed())

    async def remove(self) -> None:
        await self.worker.run(lambda: self.write(None))
        await self.worker.run(lambda: self.world.hasten(ACME))

    async def delete(self) -> bool:
        return await self.remover.delete(self.world, ACME, self.lock)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = await asyncio.to_thread(House, tmp_path)
    yield made
    await made.worker.run(made.record.close)
    await asyncio.to_thread(made.worker.close)


async def test_what_is_deleted_was_let_go_and_backed_up(house: House) -> None:
    await house.remove()
    assert await house.delete()
    assert (house.released, house.backup.made) == (["acme"], ["acme"])
    assert not house.data.exists()
    assert house.world.places.left() == []
    (deleted,) = await asyncio.to_thread(house.record.deletions)
    assert deleted.backup == "backup of acme"


@pytest.mark.parametrize("error", [StorageFull("Full."), CarrelError("No."), ValueError("a bug")])
async def test_without_a_backup_nothing_is_deleted(house: House, error: Exception) -> None:
    await house.remove()
    house.backup.error = error
    assert not await house.delete()
    assert (house.data / "kept").read_text() == "x"
    assert house.world.due() == []
    assert house.world.status(ACME).results[-1].outcome == "failed"


async def test_who_comes_back_while_it_is_backed_up_stays(house: House) -> None:
    await house.remove()
    house.backup.meanwhile = asyncio.Event()
    work = asyncio.ensure_future(house.delete())
    await asyncio.sleep(0)
    await house.worker.run(lambda: house.write("display_name: Back\n"))
    house.backup.meanwhile.set()
    assert not await work
    assert (house.data / "kept").read_text() == "x"
    assert house.world.status(ACME).state == "Ready"


async def test_what_a_kill_left_is_swept(house: House) -> None:
    left = house.data.with_name(".deleting-gone-1")
    left.mkdir()
    (left / "file").write_text("x")
    await house.remover.sweep(house.world)
    assert not left.exists()
