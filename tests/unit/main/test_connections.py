"""Where a browser finds the gateway, and a vault that only connections are in."""

from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.main.connections import address_of, own_vault
from carrel.vault.ring import KeyRing
from carrel.vault.vault import Vault
from tests.fakes.tenants import make_tenant


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"), ("0" + ".0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"), ("carrel.example", "http://carrel.example:1"),
    ],
)  # fmt: skip
def test_where_it_is_found(host: str, address: str) -> None:
    assert address_of(host, 1) == address


def test_what_is_in_its_vault_is_not_among_secrets(tmp_path: Path) -> None:
    ring = KeyRing(credentials_dir=None, secrets_dir=None, state_dir=tmp_path, makes=True)
    tenant = make_tenant(tmp_path)
    own_vault(ring, SystemClock()).set(tenant, "c1", "x")
    assert Vault(keys=ring, clock=SystemClock()).list(tenant) == []
    tenant.root.close()
