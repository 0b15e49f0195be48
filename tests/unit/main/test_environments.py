"""Environments are made for the package sets of tenants that are served."""

from dataclasses import replace
from pathlib import Path

from carrel.main.environments import _package_sets
from tests.fakes.tenants import make_snapshot, make_tenant


def test_a_suspended_tenant_wants_none(tmp_path: Path) -> None:
    one, other = make_tenant(tmp_path, "acme", packages=("jq",)), make_tenant(tmp_path, "bravo", packages=("git",))
    snapshot = make_snapshot(one, replace(other, suspended=True))
    assert _package_sets(snapshot) == {frozenset({"jq"})}
    one.root.close()
    other.root.close()
