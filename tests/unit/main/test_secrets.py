"""A tenant's vault before the operator's secrets, and every change in the audit log."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from carrel.clock import SystemClock
from carrel.errors import NotFound
from carrel.ids import RequestId
from carrel.main.secrets import SecretKeeping, TenantSecrets
from carrel.secrets import SecretMissing, SecretStore
from carrel.tenancy.handle import Tenant
from carrel.vault.keys import MasterKeys
from carrel.vault.vault import Vault
from carrel.wire import control
from tests.fakes.tenants import make_tenant
from tests.unit.main.test_sandboxes import Lines

BY = control.Actor("ak_ops", RequestId("req_1"))
VAULT = Vault(keys=MasterKeys({1: b"1" * 32}, source="test"), clock=SystemClock())


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = make_tenant(tmp_path / "state")
    yield made
    made.root.close()


async def test_the_vault_goes_before_what_the_operator_keeps(tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "TOKEN").write_text("the operator's")
    secrets = TenantSecrets(vault=VAULT, store=SecretStore(credentials_dir=None, secrets_dir=tmp_path, environ={}))
    assert secrets.of(tenant, "TOKEN").reveal() == "the operator's"
    VAULT.set(tenant, "TOKEN", "the tenant's")
    assert (await secrets.get(tenant, "TOKEN")).reveal() == "the tenant's"
    with pytest.raises(SecretMissing):
        await secrets.get(tenant, "OTHER")


async def test_what_is_done_is_written_down_by_name_alone(tenant: Tenant) -> None:
    lines = Lines()
    keeping = SecretKeeping(vault=VAULT, audit=lines)  # type: ignore[arg-type] # all that it needs
    order = control.SecretPut(value=SecretStr("canary"))
    assert (await keeping.put(tenant, "A", order, by=BY)).version == 1
    assert (await keeping.put(tenant, "A", order.model_copy(update={"must_exist": True}), by=BY)).version == 2
    assert [one.name for one in (await keeping.list(tenant)).secrets] == ["A"]
    assert (await keeping.reseal(tenant, by=BY)).count == 0
    await keeping.remove(tenant, "A", by=BY)
    with pytest.raises(NotFound):
        await keeping.remove(tenant, "A", by=BY)
    assert lines.lines == [
        ("secrets.set", "A", "ok"), ("secrets.rotate", "A", "ok"), ("secrets.reseal", "acme", "ok"),
        ("secrets.remove", "A", "ok"), ("secrets.remove", "A", "failed: not_found"),
    ]  # fmt: skip
    assert "canary" not in repr(order)
