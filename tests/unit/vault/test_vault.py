"""A tenant's secrets on the disk: sealed, counted, renewed under another key, and never half there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import InvalidRequest, NotFound, TooLarge
from carrel.tenancy.handle import Tenant
from carrel.vault.box import SealBroken
from carrel.vault.keys import MasterKeys
from carrel.vault.vault import MOST, PLACE, Vault
from tests.fakes.tenants import make_tenant

OLD = MasterKeys({1: b"1" * 32}, source="test")
BOTH = MasterKeys({1: b"1" * 32, 2: b"2" * 32}, source="test")
NEW = MasterKeys({2: b"2" * 32}, source="test")


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path)
    yield made
    made.root.close()


@pytest.fixture
def vault() -> Vault:
    return Vault(keys=OLD, clock=SystemClock())


def test_it_is_kept_listed_and_forgotten(vault: Vault, tenant: Tenant, tmp_path: Path) -> None:
    assert vault.list(tenant) == []
    first = vault.set(tenant, "B", "värde\nline")
    vault.set(tenant, "A", "x")
    assert vault.get(tenant, "B").reveal() == "värde\nline"
    assert [info.name for info in vault.list(tenant)] == ["A", "B"]
    second = vault.set(tenant, "B", "other")
    assert (first.version, second.version, second.created) == (1, 2, first.created)
    assert second.updated >= first.updated
    vault.remove(tenant, "B")
    for gone in (lambda: vault.get(tenant, "B"), lambda: vault.remove(tenant, "B")):
        with pytest.raises(NotFound):
            gone()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in kept] == ["A.sealed"]
    assert kept[0].stat().st_mode & 0o777 == 0o600


def test_S5_04_nothing_of_a_value_is_on_the_disk(vault: Vault, tenant: Tenant, tmp_path: Path) -> None:
    vault.set(tenant, "A", "canary-value-4711")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes()


def test_S5_04_a_file_moved_to_another_tenant_or_name_does_not_open(
    vault: Vault, tenant: Tenant, tmp_path: Path
) -> None:
    vault.set(tenant, "A", "value")
    other = make_tenant(tmp_path, "zeta")
    vault.set(other, "B", "other")
    sealed = (tmp_path / "tenants/acme" / PLACE / "A.sealed").read_bytes()
    (tmp_path / "tenants/zeta" / PLACE / "B.sealed").write_bytes(sealed)
    (tmp_path / "tenants/acme" / PLACE / "C.sealed").write_bytes(sealed)
    with pytest.raises(SealBroken):
        vault.get(other, "B")
    with pytest.raises(SealBroken):
        vault.get(tenant, "C")
    other.root.close()


def test_S5_04_keys_rotate_while_all_stays_readable(vault: Vault, tenant: Tenant) -> None:
    for number in range(5):
        vault.set(tenant, f"S{number}", f"value {number}")
    between = Vault(keys=BOTH, clock=SystemClock())
    assert between.get(tenant, "S0").reveal() == "value 0"
    between.set(tenant, "S0", "new")
    assert between.reseal(tenant) == 4
    assert between.reseal(tenant) == 0
    after = Vault(keys=NEW, clock=SystemClock())
    assert [after.get(tenant, f"S{n}").reveal() for n in range(5)] == ["new", *(f"value {n}" for n in range(1, 5))]
    assert {info.key_version for info in after.list(tenant)} == {2}
    assert {info.version for info in after.list(tenant)} == {1, 2}


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "1x", "x" * 65, "a b", "ä", "x\0"])
def test_what_is_no_name(vault: Vault, tenant: Tenant, name: str) -> None:
    for ask in (
        lambda: vault.set(tenant, name, "v"),
        lambda: vault.get(tenant, name),
        lambda: vault.remove(tenant, name),
    ):
        with pytest.raises(InvalidRequest):
            ask()


@pytest.mark.parametrize("value", ["", "a\0b", "x" * (64 * 1024 + 1), "\ud800"])
def test_what_is_no_value(vault: Vault, tenant: Tenant, value: str) -> None:
    with pytest.raises(InvalidRequest):
        vault.set(tenant, "A", value)
    assert vault.list(tenant) == []


def test_what_must_be_there_already(vault: Vault, tenant: Tenant) -> None:
    with pytest.raises(NotFound):
        vault.set(tenant, "A", "v", must_exist=True)
    vault.set(tenant, "A", "v")
    assert vault.set(tenant, "A", "w", must_exist=True).version == 2


def test_a_tenant_keeps_so_many_and_no_more(vault: Vault, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.vault.vault.MOST", 3)
    for number in range(3):
        vault.set(tenant, f"S{number}", "v")
    with pytest.raises(TooLarge):
        vault.set(tenant, "S3", "v")
    vault.set(tenant, "S0", "w")
    assert MOST > 3
