import os
from pathlib import Path

import pytest

from carrel.errors import UnsafePath
from carrel.ids import TenantId
from carrel.tenancy.overlay import StateOverlays
from carrel.tenancy.paths import TenantRoot

ACME = TenantId("acme")


@pytest.fixture
def overlays(tmp_path: Path) -> StateOverlays:
    TenantRoot.open(tmp_path / "tenants" / "acme", create=True).close()
    return StateOverlays(tmp_path)


def test_none_is_none(overlays: StateOverlays) -> None:
    assert overlays.signature(ACME) is None
    assert overlays.read(ACME) is None
    assert overlays.signature(TenantId("nope")) is None
    assert overlays.read(TenantId("nope")) is None


def test_what_is_written_is_read_and_changes_the_signature(overlays: StateOverlays) -> None:
    overlays.write(ACME, b"packages: [jq]\n")
    first = overlays.signature(ACME)
    assert first is not None
    assert overlays.read(ACME) == b"packages: [jq]\n"
    overlays.write(ACME, b"packages: []\n")
    assert overlays.signature(ACME) != first


def test_a_link_is_not_followed(overlays: StateOverlays, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "tenants" / "acme" / "config.yaml").symlink_to(tmp_path / "secret")
    assert overlays.signature(ACME) is not None
    with pytest.raises(UnsafePath):
        overlays.read(ACME)


def test_a_fifo_does_not_block(overlays: StateOverlays, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tenants" / "acme" / "config.yaml")
    with pytest.raises(UnsafePath):
        overlays.read(ACME)
