from pathlib import Path

import pytest

from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.tenancy.handle import Directory
from tests.fakes.tenants import make_snapshot, make_tenant


def test_a_snapshot_knows_its_tenants_and_models(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    snapshot = make_snapshot(tenant)
    assert snapshot.tenant(TenantId("acme")) is tenant
    assert snapshot.model("demo") is not None
    assert snapshot.model("nope") is None
    with pytest.raises(NotFound):
        snapshot.tenant(TenantId("other"))
    tenant.root.close()


def test_a_directory_holds_what_was_published_last() -> None:
    directory = Directory()
    with pytest.raises(CarrelError):
        _ = directory.current
    first, second = make_snapshot(), make_snapshot()
    directory.publish(first)
    directory.publish(second)
    assert directory.current is second
