from pathlib import Path

import pytest

from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import CarrelError, InvalidRequest, NotFound
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


def test_a_handle_is_used_for_a_member_whom_there_is(tmp_path: Path) -> None:
    people = (Member(name="ada"), Member(name="bob"))
    shared = make_tenant(tmp_path, members=people)
    apart = make_tenant(tmp_path, members=people, sandbox=SandboxConfig(scope="member"))
    assert (shared.as_member("ada").member, shared.as_member("ada").own) == ("ada", None)
    assert (apart.as_member("ada").own, apart.own, apart.as_member(None)) == ("ada", None, apart)
    assert (shared.role, shared.as_member("ada").role) == (None, "member")
    assert shared.allowed(("chat", "admin"), "ada") == ("chat",)
    assert shared.allowed(("chat", "admin"), None) == ("chat", "admin")
    with pytest.raises(InvalidRequest, match="did you mean ada"):
        apart.as_member("adah")
    with pytest.raises(InvalidRequest, match="its members are none"):
        make_tenant(tmp_path, "bravo").as_member("x")
