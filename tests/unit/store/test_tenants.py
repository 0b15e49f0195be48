"""Databases beneath tenants' roots."""

from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from carrel.errors import CarrelError
from carrel.store.tenants import TenantDatabases
from tests.fakes.tenants import make_tenant


def schema(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS things (name TEXT)")


@pytest.fixture
async def databases() -> AsyncIterator[TenantDatabases]:
    made = TenantDatabases(directory="things", name="things.sqlite", schema=schema, limit=1)
    yield made
    await made.close()


def add(connection: apsw.Connection) -> int:
    connection.execute("INSERT INTO things VALUES ('x')")
    return len(connection.execute("SELECT * FROM things").fetchall())


async def test_each_tenant_has_its_own_also_where_few_are_open(databases: TenantDatabases, tmp_path: Path) -> None:
    acme, bravo = make_tenant(tmp_path), make_tenant(tmp_path, "bravo")
    assert [await databases.run(one, add) for one in (acme, bravo, acme)] == [1, 1, 2]


async def test_a_tenant_made_anew_has_an_empty_one(databases: TenantDatabases, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    await databases.run(acme, add)
    acme.root.close()
    (tmp_path / "tenants" / "acme").rename(tmp_path / "gone")
    assert await databases.run(make_tenant(tmp_path), add) == 1


async def test_a_link_in_its_place_is_not_opened(databases: TenantDatabases, tmp_path: Path) -> None:
    acme = make_tenant(tmp_path)
    acme.root.directory("things", create=True).close()
    (tmp_path / "tenants" / "acme" / "things" / "things.sqlite").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CarrelError):
        await databases.run(acme, add)
    assert not (tmp_path / "elsewhere").exists()
