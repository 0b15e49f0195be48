import gzip
import os
import tarfile
import zlib
from pathlib import Path

import pytest

from carrel.declare.tenant import Tenant as TenantConfig
from carrel.errors import StorageFull
from carrel.ids import TenantId
from carrel.reconcile import final_archive
from carrel.reconcile.final_archive import ArchiveFailed, FinalArchive
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import LazyTenantRoot
from tests.fakes.clock import FakeClock


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    home = tmp_path / "tenants"
    home.mkdir()
    root = LazyTenantRoot(home / "acme")
    root.replace("memory/notes", b"kept")
    root.replace("sessions/s.jsonl", b"x" * 3_000_000)
    return Tenant(TenantId("acme"), TenantConfig(), "r", root, suspended=True, removed=True)


async def test_everything_is_in_it_and_nothing_is_followed(tmp_path: Path, tenant: Tenant) -> None:
    home = tmp_path / "tenants" / "acme"
    (home / "sandbox" / "etc").symlink_to("/etc")
    os.mkfifo(home / "sandbox" / "pipe")
    (home / "sandbox" / "closed").mkdir()
    (home / "sandbox" / "closed" / "inner").write_text("hidden")
    (home / "sandbox" / "closed").chmod(0)
    name = await FinalArchive(tmp_path, FakeClock()).make(tenant)
    assert name == "removed/acme-20260301T120000000000Z.tar.gz"
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / name) as tar:
        found = {member.name: member for member in tar}
        inner = tar.extractfile("acme/memory/notes")
        assert inner is not None
        assert inner.read() == b"kept"
    assert found["acme/sandbox/etc"].issym()
    assert "acme/sandbox/pipe" not in found
    assert "acme/sandbox/closed/inner" in found
    assert not [one for one in os.listdir(tmp_path / "removed") if one.startswith(".")]


def unpacked(data: bytes) -> bytes | None:
    """What is in it; None where nothing can be had of it."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 0.99, 1.0])
async def test_one_that_does_not_read_back_is_none(
    tmp_path: Path, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    tenant.root.replace("memory/incompressible", b"".join(os.urandom(1000) + bytes(1000) for _ in range(5)))
    real = final_archive._compare

    def damaged(part: Path, written: dict[str, str]) -> None:
        whole = part.read_bytes()
        at = int((len(whole) - 1) * place)
        # Zeros that are copied from another place among zeros are what they were.
        while unpacked(data := whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]) == unpacked(whole):
            at -= 1
        part.write_bytes(data)
        real(part, written)

    monkeypatch.setattr(final_archive, "_compare", damaged)
    with pytest.raises(ArchiveFailed):
        await FinalArchive(tmp_path, FakeClock()).make(tenant)
    assert os.listdir(tmp_path / "removed") == []


async def test_a_full_disk_is_said_to_be_one(tmp_path: Path, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(final_archive, "_add", full)
    with pytest.raises(StorageFull, match="nothing is deleted"):
        await FinalArchive(tmp_path, FakeClock()).make(tenant)
