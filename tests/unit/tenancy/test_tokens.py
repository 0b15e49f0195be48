import dataclasses
import hashlib
import re
from datetime import timedelta
from pathlib import Path

import pytest

from carrel.declare.base import DeclaredToken
from carrel.errors import Conflict, NotFound, StorageFailed
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot
from carrel.tenancy.tokens import TokenStore, TokensUnreadable
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_snapshot, make_tenant


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path)


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> TokenStore:
    return TokenStore(state_dir=tmp_path, clock=clock)


def test_a_token_is_known_by_its_text_and_kept_by_its_digest(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path
) -> None:
    text, record = store.issue(tenant)
    assert re.fullmatch(r"tk_acme_[0-9a-f]{32}", text)
    assert store.verify(text, clock.now()) == record
    kept = (tmp_path / "tenants/acme/credentials/tokens.json").read_text()
    assert text not in kept
    assert text[len("tk_acme_") :] not in kept
    assert hashlib.sha256(text.encode()).hexdigest() in kept
    assert record.prefix == "tk_acme_"


@pytest.mark.parametrize(
    "change",
    [lambda t: t[:-1], lambda t: t + "0", str.upper, lambda t: "", lambda t: t + "\ud800"],
)
def test_anything_else_is_unknown(store: TokenStore, tenant: Tenant, clock: FakeClock, change: object) -> None:
    text, _ = store.issue(tenant)
    assert callable(change)
    assert store.verify(change(text), clock.now()) is None


def test_they_outlive_a_restart(store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path) -> None:
    text, record = store.issue(tenant, name="ci", scopes=("chat",), expires=clock.now() + timedelta(days=1))
    again = TokenStore(state_dir=tmp_path, clock=clock)
    assert again.load() == []
    assert again.verify(text, clock.now()) == record


def test_whose_a_token_is_stays_through_a_restart_and_a_rotation(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path
) -> None:
    text, record = store.issue(tenant, name="ada", member="ada")
    assert record.member == "ada"
    again = TokenStore(state_dir=tmp_path, clock=clock)
    again.load()
    assert again.verify(text, clock.now()) == record
    assert again.rotate(tenant, name="ada")[1].member == "ada"
    assert again.issue(tenant, name="ci")[1].member is None


def test_rotating_ends_the_old_one_and_the_first_rotate_issues(
    store: TokenStore, tenant: Tenant, clock: FakeClock
) -> None:
    first, _ = store.rotate(tenant)
    second, _ = store.rotate(tenant)
    assert store.verify(first, clock.now()) is None
    assert store.verify(second, clock.now()) is not None
    with pytest.raises(NotFound):
        store.rotate(tenant, name="other")


def test_revoking_ends_it(store: TokenStore, tenant: Tenant, clock: FakeClock) -> None:
    text, _ = store.issue(tenant, name="ci")
    store.revoke(tenant, "ci")
    assert store.verify(text, clock.now()) is None
    with pytest.raises(NotFound):
        store.revoke(tenant, "ci")


def test_an_expired_one_is_unknown(store: TokenStore, tenant: Tenant, clock: FakeClock) -> None:
    text, _ = store.issue(tenant, name="brief", expires=clock.now() + timedelta(seconds=10))
    clock.advance(9)
    assert store.verify(text, clock.now()) is not None
    clock.advance(1)
    assert store.verify(text, clock.now()) is None
    with pytest.raises(Conflict, match="expired"):
        store.rotate(tenant, name="brief")


def test_a_name_is_taken_once(store: TokenStore, tenant: Tenant) -> None:
    store.issue(tenant, name="ci")
    with pytest.raises(Conflict):
        store.issue(tenant, name="ci")


def test_declared_ones_come_and_go_with_the_snapshot(store: TokenStore, tenant: Tenant, clock: FakeClock) -> None:
    text = "tk_acme_" + "a" * 32
    token = DeclaredToken(name="ops", sha256=hashlib.sha256(text.encode()).hexdigest())
    declared = dataclasses.replace(tenant, config=tenant.config.model_copy(update={"tokens": (token,)}))
    store.declare(make_snapshot(declared))
    found = store.verify(text, clock.now())
    assert found is not None
    assert found.source == "declared"
    with pytest.raises(Conflict, match=r"acme\.yaml"):
        store.rotate(declared, name="ops")
    with pytest.raises(Conflict, match=r"acme\.yaml"):
        store.revoke(declared, "ops")
    store.declare(make_snapshot(tenant))
    assert store.verify(text, clock.now()) is None


def test_a_damaged_file_is_named_and_left_as_it_is(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path
) -> None:
    text, _ = store.issue(tenant)
    path = tmp_path / "tenants/acme/credentials/tokens.json"
    path.write_text("{torn")
    again = TokenStore(state_dir=tmp_path, clock=clock)
    assert len(again.load()) == 1
    assert again.verify(text, clock.now()) is None
    with pytest.raises(TokensUnreadable):
        again.issue(tenant)
    assert path.read_text() == "{torn"


def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, _ = store.issue(tenant)
    again = TokenStore(state_dir=tmp_path, clock=clock)

    def fails(*_: object, **__: object) -> bytes:
        raise StorageFailed("The disk fails.")

    with monkeypatch.context() as patched:
        patched.setattr(TenantRoot, "read", fails)
        [problem] = again.load()
        assert "The disk fails." in problem
        assert again.verify(text, clock.now()) is None
        with pytest.raises(TokensUnreadable):
            again.reload(tenant.id)
    assert again.drifted(tenant.id)
    again.reload(tenant.id)
    assert again.verify(text, clock.now()) is not None
    assert not again.drifted(tenant.id)


def test_a_file_that_others_changed_is_seen_and_taken_in(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path
) -> None:
    assert not store.drifted(tenant.id)
    text, _ = store.issue(tenant)
    assert not store.drifted(tenant.id)
    file = tmp_path / "tenants/acme/credentials/tokens.json"
    file.write_text('{"version": 1, "tokens": []}\n')
    assert store.drifted(tenant.id)
    assert store.verify(text, clock.now()) is not None
    store.reload(tenant.id)
    assert store.verify(text, clock.now()) is None
    assert not store.drifted(tenant.id)
    file.write_text("{")
    with pytest.raises(TokensUnreadable):
        store.reload(tenant.id)
    file.unlink()
    store.reload(tenant.id)
    assert store.issue(tenant)[0]


def test_a_deleted_tenants_tokens_are_worth_nothing(store: TokenStore, tenant: Tenant, clock: FakeClock) -> None:
    text, _ = store.issue(tenant)
    store.forget(tenant.id)
    assert store.verify(text, clock.now()) is None
    assert store.list(tenant) == []


def test_a_directory_that_was_replaced_is_read_anew(
    store: TokenStore, tenant: Tenant, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "tenants/acme/credentials/tokens.json"
    old, _ = store.issue(tenant)
    kept = path.read_bytes()
    new, _ = store.rotate(tenant)
    path.write_bytes(kept)
    store.reload(tenant.id)
    assert store.verify(old, clock.now()) is not None
    assert store.verify(new, clock.now()) is None
    path.write_text("{torn")
    with pytest.raises(TokensUnreadable):
        store.reload(tenant.id)
    assert store.verify(old, clock.now()) is None
    path.unlink()
    store.reload(tenant.id)
    assert store.list(tenant) == []
    store.issue(tenant)
