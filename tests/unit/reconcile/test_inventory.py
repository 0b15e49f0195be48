from datetime import UTC, datetime
from pathlib import Path

from carrel.ids import TenantId
from carrel.reconcile.record import Record

ACME, OLD = TenantId("acme"), TenantId("old")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_what_is_owned_outlives_a_restart(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.inventory.own(ACME, NOW)
    record.inventory.remove(ACME, NOW)
    record.inventory.remove(TenantId("stranger"), NOW)
    record.inventory.advance(ACME, "deleting", backup="s3://x")
    record.flush()
    record.close()
    again = Record.open(tmp_path)
    owned = again.inventory.get(ACME)
    assert owned is not None
    assert (owned.made, owned.removed, owned.stage, owned.backup) == (NOW, NOW, "deleting", "s3://x")
    assert again.inventory.get(TenantId("stranger")) is None
    again.close()


def test_a_tenant_that_comes_back_is_as_it_was(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.inventory.own(ACME, NOW)
    record.inventory.remove(ACME, NOW)
    record.inventory.advance(ACME, "backup")
    record.inventory.own(ACME, datetime(2027, 1, 1, tzinfo=UTC))
    owned = record.inventory.get(ACME)
    assert owned is not None
    assert (owned.made, owned.removed, owned.stage) == (NOW, None, "")
    record.close()


def test_what_was_deleted_is_remembered_with_its_backup(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.inventory.own(ACME, NOW)
    record.inventory.remove(ACME, NOW)
    record.inventory.advance(ACME, "deleting", backup="removed/acme.tar.gz")
    record.flush()
    record.inventory.drop(ACME, NOW)
    record.flush()
    record.flush()
    assert [(one.tenant, one.backup) for one in record.deletions()] == [("acme", "removed/acme.tar.gz")]
    record.close()
    again = Record.open(tmp_path)
    assert again.inventory.get(ACME) is None
    again.close()


def test_who_was_in_force_before_there_was_an_inventory_is_in_it(tmp_path: Path) -> None:
    record = Record.open(tmp_path)
    record.keep(OLD, "d", "{}")
    record.keep_operators("r", {})
    record.flush()
    record._connection.execute("DELETE FROM about WHERE key = 'inventory'")
    record.close()
    again = Record.open(tmp_path)
    assert [tenant for tenant, _ in again.inventory.items()] == ["old"]
    again.close()
