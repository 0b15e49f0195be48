"""Credentials come back only with their key, and only to whom they belong."""

from pathlib import Path

from carrel.backup.adoption import Adopted, adopt
from carrel.clock import SystemClock
from carrel.ids import TenantId
from carrel.vault.keys import MasterKeys
from carrel.vault.vault import Vault
from tests.fakes.backups import KEYS
from tests.fakes.tenants import make_tenant

ACME, ZETA = TenantId("acme"), TenantId("zeta")
OTHER = MasterKeys({1: b"x" * 32}, source="test")


def restored(place: Path) -> Path:
    tenant = make_tenant(place)
    vault = Vault(keys=KEYS, clock=SystemClock())
    vault.set(tenant, "B", "value b")
    vault.set(tenant, "A", "value a")
    tenant.root.replace("credentials/tokens.json", b"{}")
    tenant.root.close()
    return place / "tenants/acme"


def test_S5_04_the_same_tenant_with_the_same_key_keeps_all(tmp_path: Path) -> None:
    tree = restored(tmp_path)
    before = (tree / "credentials/vault/A.sealed").read_bytes()
    assert adopt(tree, ACME, ACME, KEYS) == Adopted()
    assert (tree / "credentials/vault/A.sealed").read_bytes() == before
    assert (tree / "credentials/tokens.json").exists()


def test_S5_04_without_the_key_none_comes_and_each_is_named(tmp_path: Path) -> None:
    tree = restored(tmp_path)
    assert adopt(tree, ACME, ACME, OTHER) == Adopted(("A", "B"))
    assert not list((tree / "credentials/vault").iterdir())


def test_S5_04_for_another_tenant_they_are_sealed_anew_and_tokens_stay(tmp_path: Path) -> None:
    tree = restored(tmp_path)
    assert adopt(tree, ACME, ZETA, KEYS) == Adopted((), tokens=True)
    tree.rename(tmp_path / "tenants/zeta")
    tenant = make_tenant(tmp_path, "zeta")
    assert Vault(keys=KEYS, clock=SystemClock()).get(tenant, "A").reveal() == "value a"
    assert not (tmp_path / "tenants/zeta/credentials/tokens.json").exists()
    tenant.root.close()


def test_a_tree_without_credentials(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert adopt(tmp_path / "tree", ACME, ZETA, KEYS) == Adopted()


def test_S5_04_connections_come_back_to_their_own_tenant_alone(tmp_path: Path) -> None:
    place = "credentials/connections"
    for name, source, target, keys, lost in (
        ("same", ACME, ACME, KEYS, ()), ("key", ACME, ACME, OTHER, (f"{place}/c1",)),
        ("other", ACME, ZETA, KEYS, (f"{place}/c1",)),
    ):  # fmt: skip
        tenant = make_tenant(tmp_path / name)
        Vault(keys=KEYS, clock=SystemClock(), place=place).set(tenant, "c1", "tokens")
        tenant.root.close()
        tree = tmp_path / name / "tenants/acme"
        assert adopt(tree, source, target, keys).secrets == lost
        assert bool(list((tree / place).iterdir())) is not bool(lost)
