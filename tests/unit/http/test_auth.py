"""Who calls."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from carrel.declare.roles import Role
from carrel.declare.tenant import Member
from carrel.errors import Forbidden, RateLimited, TenantNotReady, TenantSuspended, Unauthorized
from carrel.http.attempts import FailedAttempts
from carrel.http.auth import (
    Authenticator,
    OperatorCaller,
    TenantCaller,
    credential_in,
    require_operator,
    require_served,
    require_tenant,
)
from carrel.tenancy.handle import Directory, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.edge import ADMIN_KEY, READER_KEY, TokenBook, edge_snapshot, token_of
from tests.fakes.tenants import make_tenant


class House:
    """An authenticator with one tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self.clock = FakeClock()
        self.tokens = TokenBook()
        self.tokens.add(token_of(tenant.id), tenant.id, scopes=("chat",))
        self.directory = Directory()
        self.directory.publish(edge_snapshot(tenant))
        self.tenant = tenant
        self.auth = Authenticator(
            directory=self.directory, tokens=self.tokens, clock=self.clock,
            attempts=FailedAttempts(self.clock, limit=5, window=60),
        )  # fmt: skip

    def caller(self, *headers: tuple[str, str], api_key_header: bool = False) -> TenantCaller | OperatorCaller:
        return self.auth.caller(
            proxy(*headers), self.directory.current, address="192.0.2.1", api_key_header=api_key_header
        )


def proxy(*headers: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(headers))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    tenant = make_tenant(tmp_path, "acme")
    yield House(tenant)
    tenant.root.close()


def test_whose_a_token_is_comes_from_its_record_alone(house: House) -> None:
    config = house.tenant.config.model_copy(update={"members": (Member(name="ada"),)})
    house.directory.publish(edge_snapshot(replace(house.tenant, config=config)))
    text = token_of("acme", "5")
    house.tokens.add(text, "acme", member="ada")
    for more in ((), (("X-Member", "bob"), ("X-Carrel-Member", "bob"))):
        caller = house.caller(bearer(text), *more)
        assert isinstance(caller, TenantCaller)
        assert caller.tenant.member == "ada"
    caller = house.caller(bearer(token_of("acme")), ("X-Carrel-Member", "ada"))
    assert isinstance(caller, TenantCaller)
    assert caller.tenant.member is None


def test_a_token_of_nobody_who_is_still_a_member_is_refused(house: House) -> None:
    text = token_of("acme", "5")
    house.tokens.add(text, "acme", member="ada")
    with pytest.raises(Unauthorized):
        house.caller(bearer(text))


def with_role(tenant: Tenant, role: Role) -> Tenant:
    people = (Member(name="ada", role=role),)
    return replace(tenant, config=tenant.config.model_copy(update={"members": people}))


def test_a_role_bounds_the_scopes_of_a_members_tokens_and_of_no_others(house: House) -> None:
    house.tokens.add(token_of("acme", "4"), "acme", member="ada")
    mine, nobodys = bearer(token_of("acme", "4")), bearer(token_of("acme"))
    allowed: dict[Role, tuple[str, ...]] = {
        "owner": ("chat", "rpc", "admin"), "admin": ("chat", "rpc", "admin"), "member": ("chat", "rpc"),
        "viewer": ("rpc",),
    }  # fmt: skip
    for role, scopes in allowed.items():
        house.directory.publish(edge_snapshot(with_role(house.tenant, role)))
        caller = house.caller(mine)
        assert isinstance(caller, TenantCaller)
        assert (caller.record.scopes, caller.record.name, caller.tenant.role) == (scopes, "default", role)
        other = house.caller(nobodys)
        assert isinstance(other, TenantCaller)
        assert other.record.scopes == ("chat",)
    with pytest.raises(Forbidden, match=r"the role of ada \(viewer\)"):
        require_tenant(house.caller(mine), "chat")


def test_what_began_with_a_role_that_allowed_it_ends_with_one_that_does_not(house: House) -> None:
    house.tokens.add(token_of("acme", "4"), "acme", member="ada")
    house.directory.publish(edge_snapshot(with_role(house.tenant, "member")))
    caller = house.caller(bearer(token_of("acme", "4")))
    house.directory.publish(edge_snapshot(with_role(house.tenant, "owner")))
    assert house.auth.still_valid(caller)
    house.directory.publish(edge_snapshot(with_role(house.tenant, "viewer")))
    assert not house.auth.still_valid(caller)


def bearer(text: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {text}")


def test_a_token_names_its_tenant(house: House) -> None:
    caller = house.caller(bearer(token_of("acme")))
    assert isinstance(caller, TenantCaller)
    assert caller.tenant.id == "acme"
    assert caller.label == "tk_acme_11111111"
    assert require_tenant(caller, "chat") is caller
    with pytest.raises(Forbidden):
        require_tenant(caller, "rpc")
    with pytest.raises(Forbidden):
        require_operator(caller, "tenants:read")


def test_an_admin_key_has_the_scopes_it_is_declared_with(house: House) -> None:
    ops, reader = house.caller(bearer(ADMIN_KEY)), house.caller(bearer(READER_KEY))
    assert isinstance(ops, OperatorCaller)
    assert require_operator(ops, "tenants:write").name == "ops"
    assert require_operator(reader, "audit:read").label == "ak_reader"
    with pytest.raises(Forbidden, match="'secrets:write'") as refused:
        require_operator(reader, "secrets:write")
    assert refused.value.details == {"scope": "secrets:write"}
    with pytest.raises(Forbidden):
        require_tenant(ops, "chat")


def test_a_key_under_another_name_is_unknown(house: House) -> None:
    with pytest.raises(Unauthorized):
        house.caller(bearer(ADMIN_KEY.replace("ak_ops_", "ak_opx_")))


def test_an_expired_admin_key_is_unknown(house: House) -> None:
    snapshot = house.directory.current
    key = snapshot.gateway.admin_keys[0].model_copy(update={"expires": house.clock.now() + timedelta(seconds=5)})
    house.directory.publish(replace(snapshot, gateway=snapshot.gateway.model_copy(update={"admin_keys": (key,)})))
    house.caller(bearer(ADMIN_KEY))
    house.clock.advance(5)
    with pytest.raises(Unauthorized):
        house.caller(bearer(ADMIN_KEY))


def test_x_api_key_is_taken_where_it_is_expected_only(house: House) -> None:
    key = ("x-api-key", token_of("acme"))
    assert isinstance(house.caller(key, api_key_header=True), TenantCaller)
    with pytest.raises(Unauthorized):
        house.caller(key)
    with pytest.raises(Unauthorized):
        house.caller(key, bearer(token_of("acme")), api_key_header=True)


def test_a_suspended_tenant_is_told_so(house: House) -> None:
    suspended = replace(house.tenant, suspended=True)
    house.directory.publish(replace(house.directory.current, tenants={suspended.id: suspended}))
    with pytest.raises(TenantSuspended):
        require_tenant(house.caller(bearer(token_of("acme"))), "chat")


def test_a_tenant_that_was_never_good_is_not_called_suspended(house: House) -> None:
    broken = replace(house.tenant, suspended=True, ready=False, problem="acme.yaml:1:1: agnets: unknown key")
    house.directory.publish(replace(house.directory.current, tenants={broken.id: broken}))
    with pytest.raises(TenantNotReady) as refused:
        require_tenant(house.caller(bearer(token_of("acme"))), "chat")
    assert "acme.yaml" not in refused.value.message
    with pytest.raises(TenantSuspended, match="no longer declared"):
        require_served(replace(house.tenant, suspended=True, removed=True), "", "")
    require_served(replace(house.tenant, problem="the last good version serves"), "", "")


def test_a_tenant_that_is_gone_has_no_token(house: House) -> None:
    house.directory.publish(replace(house.directory.current, tenants={}))
    with pytest.raises(Unauthorized):
        house.caller(bearer(token_of("acme")))


def test_many_failures_of_an_address_are_limited_and_good_ones_go_on(house: House) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            house.caller(bearer("tk_acme_" + "0" * 32))
    with pytest.raises(RateLimited):
        house.caller(bearer("tk_acme_" + "0" * 32))
    assert isinstance(house.caller(bearer(token_of("acme"))), TenantCaller)


def test_still_valid_follows_revocation_and_suspension(house: House) -> None:
    caller = house.caller(bearer(token_of("acme")))
    assert house.auth.still_valid(caller)
    assert house.auth.still_valid(OperatorCaller("uid:0"))
    house.directory.publish(
        replace(house.directory.current, tenants={house.tenant.id: replace(house.tenant, suspended=True)})
    )
    assert not house.auth.still_valid(caller)
    house.directory.publish(replace(house.directory.current, tenants={house.tenant.id: house.tenant}))
    assert house.auth.still_valid(caller)
    house.tokens.end(token_of("acme"))
    assert not house.auth.still_valid(caller)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer("x"), bearer("x")],
        [("Authorization", "Basic eDp5")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer " + "x" * 300)],
        [("Authorization", "Bearer tk_a\0b")],
        [("Authorization", "Bearer tk_ä")],
    ],
)
def test_what_is_no_credential_is_empty(headers: list[tuple[str, str]]) -> None:
    assert credential_in(proxy(*headers)) == ""


def test_the_scheme_has_no_case() -> None:
    assert credential_in(proxy(("authorization", "bEARER  abc "))) == "abc"


def test_what_a_token_is_worth_is_found_anew_with_its_record_and_with_each_revision(house: House) -> None:
    header = ("Authorization", f"Bearer {token_of('acme')}")
    first = house.caller(header)
    again = house.caller(header)
    assert isinstance(first, TenantCaller)
    assert isinstance(again, TenantCaller)
    assert first == again
    house.tokens.add(token_of("acme"), "acme", scopes=("rpc",))
    changed = house.caller(header)
    assert isinstance(changed, TenantCaller)
    assert changed.record.scopes == ("rpc",)
    suspended = replace(house.tenant, suspended=True)
    house.directory.publish(edge_snapshot(suspended))
    later = house.caller(header)
    assert isinstance(later, TenantCaller)
    assert later.tenant is suspended
    house.directory.publish(edge_snapshot())
    with pytest.raises(Unauthorized):
        house.caller(header)
    house.directory.publish(edge_snapshot(house.tenant))
    assert isinstance(house.caller(header), TenantCaller)
    house.tokens.end(token_of("acme"))
    with pytest.raises(Unauthorized):
        house.caller(header)
