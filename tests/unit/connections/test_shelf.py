"""Connections as sealed files of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.connections.shelf import PLACE, Shelf
from carrel.errors import CarrelError, NotFound
from carrel.main.connections import own_vault
from carrel.tenancy.handle import Tenant
from carrel.vault.box import SealBroken
from carrel.vault.ring import KeyRing
from carrel.vault.vault import Vault
from tests.fakes.tenants import make_tenant
from tests.unit.connections.test_record import connection


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    yield made
    made.root.close()


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(credentials_dir=None, secrets_dir=None, state_dir=tmp_path, makes=True)


def test_it_keeps_finds_and_forgets_each_for_its_member(tenant: Tenant, ring: KeyRing) -> None:
    shelf = Shelf(own_vault(ring, SystemClock()))
    shared, adas = connection(), connection(member="ada", account="ada@example.com")
    shelf.put(tenant, shared)
    shelf.put(tenant, adas)
    assert shelf.get(tenant, None, "v") == shared
    assert shelf.get(tenant, "ada", "v") == adas
    assert shelf.get(tenant, "bob", "v") is None
    assert shelf.all(tenant) == [shared, adas]
    shelf.remove(tenant, "ada", "v")
    assert shelf.all(tenant) == [shared]
    with pytest.raises(NotFound):
        shelf.remove(tenant, "ada", "v")


def test_nothing_of_it_is_on_the_disk_in_the_clear_and_nothing_opens_elsewhere(
    tenant: Tenant, ring: KeyRing, tmp_path: Path
) -> None:
    shelf = Shelf(own_vault(ring, SystemClock()))
    shelf.put(tenant, connection(account="octocat"))
    held = tmp_path / "tenants" / "acme" / PLACE
    (file,) = held.iterdir()
    for word in (b"secret", b"octocat"):
        assert word not in file.read_bytes()
    # Put among the secrets that people keep, under its very name, it does not open: nobody can name it there.
    people = Vault(keys=ring, clock=SystemClock())
    people.set(tenant, "other", "x")
    (held.parent / "vault" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SealBroken):
        people.get(tenant, file.name.removesuffix(".sealed"))


def test_what_cannot_be_read_is_said_without_its_content(tenant: Tenant, ring: KeyRing) -> None:
    vault = own_vault(ring, SystemClock())
    shelf = Shelf(vault)
    shelf.put(tenant, connection())
    vault.set(tenant, vault.names(tenant)[0], '{"access": "at-secret"}')
    with pytest.raises(CarrelError) as caught:
        shelf.get(tenant, None, "v")
    assert "link it again" in caught.value.message
    assert "secret" not in caught.value.message
