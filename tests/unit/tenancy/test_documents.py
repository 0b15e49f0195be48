"""Small documents of tenants."""

import asyncio
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from carrel.tenancy.documents import Documents, DocumentUnreadable
from tests.fakes.tenants import make_tenant


class Names(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = ()


async def test_changes_of_many_at_once_are_all_kept(tmp_path: Path) -> None:
    tenant, documents = make_tenant(tmp_path), Documents("devices/names.json", Names)

    async def add(name: str) -> None:
        await documents.change(tenant, lambda d: d.model_copy(update={"names": (*d.names, name)}))

    await asyncio.gather(*(add(str(n)) for n in range(10)))
    assert sorted((await Documents("devices/names.json", Names).read(tenant)).names) == sorted(map(str, range(10)))


async def test_a_change_that_raises_changes_nothing(tmp_path: Path) -> None:
    tenant, documents = make_tenant(tmp_path), Documents("devices/names.json", Names)

    def no(_: Names) -> Names:
        raise LookupError

    with pytest.raises(LookupError):
        await documents.change(tenant, no)
    assert await documents.read(tenant) == Names()


async def test_what_is_damaged_is_not_overwritten(tmp_path: Path) -> None:
    tenant, documents = make_tenant(tmp_path), Documents("devices/names.json", Names)
    tenant.root.replace("devices/names.json", b"{")
    with pytest.raises(DocumentUnreadable):
        await documents.change(tenant, lambda d: d)
    assert tenant.root.read("devices/names.json", limit=9) == b"{"
