"""What an admin key may do, and for whom."""

from typing import get_args

import pytest
from pydantic import ValidationError

from carrel.declare.admin_keys import ABOUT, BUNDLES, EVERY, AdminKey, AdminScope, is_for, scopes_of
from carrel.ids import parse_tenant_id

DIGEST = "0" * 64


def test_every_scope_is_explained_and_is_in_one_bundle() -> None:
    assert set(ABOUT) == set(EVERY) == set(get_args(AdminScope))
    assert BUNDLES["read"] | BUNDLES["write"] == EVERY
    assert not BUNDLES["read"] & BUNDLES["write"]


def test_a_bundle_and_single_scopes_add_up() -> None:
    assert scopes_of(["read", "write"]) == EVERY
    assert scopes_of(["billing:read"]) == {"billing:read"}
    found = scopes_of(["read", "backups:write"])
    assert found == BUNDLES["read"] | {"backups:write"}
    assert "archives" not in found
    assert scopes_of([]) == frozenset()


def test_a_key_may_do_everything_for_all_unless_it_is_said() -> None:
    key = AdminKey(name="ops", sha256=DIGEST)
    assert scopes_of(key.scopes) == EVERY
    assert is_for(key.tenants, parse_tenant_id("anybody"))


@pytest.mark.parametrize(
    ("patterns", "tenant", "is_theirs"),
    [
        (("acme",), "acme", True), (("acme",), "acme2", False), (("acme-*",), "acme-1", True),
        (("acme-*",), "acme", False), (("a", "b*"), "bravo", True), (("a", "b*"), "aa", False),
    ],
)  # fmt: skip
def test_a_limited_key_is_for_tenants_by_id_or_by_how_ids_begin(
    patterns: tuple[str, ...], tenant: str, is_theirs: bool
) -> None:
    assert is_for(patterns, parse_tenant_id(tenant)) is is_theirs


@pytest.mark.parametrize("pattern", ["*", "a*b", "A", "", "_x", "-*", "a" * 33, "../x"])
def test_a_pattern_that_is_too_wide_or_no_id_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        AdminKey(name="ops", sha256=DIGEST, tenants=(pattern,))
    AdminKey(name="ops", sha256=DIGEST, tenants=("a*", "a" * 32))


def test_a_scope_that_there_is_not_is_refused_and_so_is_a_key_for_nobody() -> None:
    with pytest.raises(ValidationError):
        AdminKey.model_validate({"name": "ops", "sha256": DIGEST, "scopes": ("tenants:own",)})
    with pytest.raises(ValidationError):
        AdminKey(name="ops", sha256=DIGEST, tenants=())
