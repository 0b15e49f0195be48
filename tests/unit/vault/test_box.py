"""What is sealed opens for its own tenant and name alone."""

import pytest

from carrel.ids import TenantId
from carrel.vault.box import SealBroken, open_sealed, seal, version_of
from carrel.vault.keys import MasterKeys, MasterKeyUnusable

KEYS = MasterKeys({1: b"1" * 32, 2: b"2" * 32}, source="test")
ACME, ZETA = TenantId("acme"), TenantId("zeta")


def test_S5_04_it_opens_where_it_belongs() -> None:
    sealed = seal(KEYS, ACME, "TOKEN", b"value")
    assert b"value" not in sealed
    assert open_sealed(KEYS, ACME, "TOKEN", sealed) == b"value"
    assert version_of(sealed) == 2
    assert seal(KEYS, ACME, "TOKEN", b"value") != sealed


def test_S5_04_moved_or_changed_it_does_not_open() -> None:
    sealed = seal(KEYS, ACME, "TOKEN", b"value")
    for tenant, name in ((ZETA, "TOKEN"), (ACME, "OTHER"), (TenantId("acm"), "eTOKEN")):
        with pytest.raises(SealBroken):
            open_sealed(KEYS, tenant, name, sealed)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises((SealBroken, MasterKeyUnusable)):
            open_sealed(KEYS, ACME, "TOKEN", bytes(changed))
    for length in range(len(sealed)):
        with pytest.raises((SealBroken, MasterKeyUnusable)):
            open_sealed(KEYS, ACME, "TOKEN", sealed[:length])


def test_S5_04_another_master_key_is_told_as_such() -> None:
    sealed = seal(KEYS, ACME, "TOKEN", b"value")
    with pytest.raises(SealBroken, match="another key"):
        open_sealed(MasterKeys({2: b"x" * 32}, source="other"), ACME, "TOKEN", sealed)
    with pytest.raises(MasterKeyUnusable, match="version 2"):
        open_sealed(MasterKeys({1: b"1" * 32}, source="old"), ACME, "TOKEN", sealed)
