"""S9.1: a MAC covers the tenant, the version and everything in an archive."""

import gzip
import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.backup.archive import HEADER, MANIFEST, Header, Writer
from carrel.backup.archive_seal import SEAL, Seal, seal_of, vouched
from carrel.backup.intake import take_in
from carrel.errors import CarrelError, UnsafePath
from carrel.vault.keys import MasterKeys

OURS = MasterKeys({1: b"1" * 32}, source="ours")
NEWER = MasterKeys({1: b"1" * 32, 2: b"2" * 32}, source="newer")
THEIRS = MasterKeys({1: b"3" * 32}, source="theirs")


def archive(keys: MasterKeys | None = OURS, tenant: str = "acme") -> bytes:
    out = io.BytesIO()
    writer = Writer(out, Header(tenant=tenant, at=datetime(2026, 3, 1, tzinfo=UTC), carrel="1"), keys=keys)
    writer.data("config.yaml", b"display_name: x\n")
    writer.close()
    return out.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {info.name: (tar.extractfile(info) or io.BytesIO()).read() for info in tar}


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as zipped, tarfile.open(fileobj=zipped, mode="w|") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def seen(data: bytes, place: Path, keys: MasterKeys | None = OURS) -> str:
    return take_in(io.BytesIO(data), place, going=lambda: None, keys=keys).seal


def test_who_vouches_is_told(tmp_path: Path) -> None:
    assert seen(archive(), tmp_path / "a") == "own"
    assert seen(archive(), tmp_path / "b", NEWER) == "own"
    assert seen(archive(NEWER), tmp_path / "c") == "other"
    assert seen(archive(), tmp_path / "d", THEIRS) == "other"
    assert seen(archive(), tmp_path / "e", None) == "other"
    assert seen(archive(None), tmp_path / "f") == "none"


def test_nothing_is_changed_under_a_seal(tmp_path: Path) -> None:
    files = members(archive())
    assert list(files) == [HEADER, "tenant/config.yaml", MANIFEST, SEAL]
    other = members(archive(tenant="bravo"))
    longer = files[MANIFEST].replace(b"config.yaml", b"confic.yaml")
    changed = (
        {**files, HEADER: other[HEADER]}, {**files, SEAL: other[SEAL]},
        {name.replace("config", "confic"): data for name, data in {**files, MANIFEST: longer}.items()},
    )  # fmt: skip
    for number, one in enumerate(changed):
        with pytest.raises(UnsafePath, match="seal is not its own"):
            seen(packed(one), tmp_path / f"{number}")
        assert not (tmp_path / f"{number}").exists()
    another_key = {**files, SEAL: files[SEAL].replace(b'"key":1', b'"key":7')}
    assert seen(packed(another_key), tmp_path / "x") == "other"
    assert seen(packed(files), tmp_path / "same") == "own"


@pytest.mark.parametrize("name", ["carrel-other.json", "tenant/late"])
def test_nothing_but_a_seal_follows_and_nothing_follows_it(tmp_path: Path, name: str) -> None:
    files = members(archive())
    with pytest.raises(UnsafePath):
        seen(packed({**files, name: b"{}"}), tmp_path / "a")
    unsealed = {key: data for key, data in files.items() if key != SEAL}
    with pytest.raises(UnsafePath):
        seen(packed({**unsealed, name: b"{}"}), tmp_path / "b")
    with pytest.raises(CarrelError, match="is not as it should be"):
        seen(packed({**unsealed, SEAL: b"{}"}), tmp_path / "c")


def test_a_seal_says_nothing_of_the_key() -> None:
    seal = seal_of(OURS, b"h", b"m")
    assert vouched(OURS, seal, b"h", b"m") == "own"
    assert Seal.model_validate_json(seal.model_dump_json()) == seal
    assert (b"1" * 32).hex() not in seal.model_dump_json()
