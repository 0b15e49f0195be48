"""A backup read back: whole, or each thing that is wrong with it is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.backup.catalogue import BackupInfo
from carrel.backup.progress import Progress
from carrel.backup.reader import counted, reading, verify
from carrel.backup.repository import Repository
from carrel.backup.run import back_up
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectDamaged
from tests.fakes.backups import KEYS, full_tenant, means, subject

Made = tuple[Repository, BackupInfo, Path]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    tenant = full_tenant(tmp_path)
    info = back_up(subject(tenant), means(tmp_path), Progress())
    yield Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS), info, tmp_path / "store/acme"
    tenant.root.close()


def test_whole(made: Made) -> None:
    repository, info, _ = made
    progress = Progress()
    assert verify(repository, info.id, progress) == []
    assert (progress.phase, progress.files, progress.done) == ("done", info.files, info.bytes)


def test_every_damaged_piece_is_found(made: Made) -> None:
    repository, info, place = made
    manifest = repository.manifest(info.id)
    pieces = [path for path in (place / "pieces").rglob("*") if path.is_file()]
    assert len(pieces) > 5
    for path in pieces:
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
            path.write_bytes(damaged)
            assert verify(repository, info.id, Progress()), path
        path.unlink()
        assert verify(repository, info.id, Progress()), path
        path.write_bytes(whole)
    assert verify(repository, info.id, Progress()) == []
    assert verify(repository, "20260101T000000Z-00000000", Progress())
    assert manifest.files == info.files


def test_S9_01_no_more_and_no_less_than_the_manifest_says(made: Made) -> None:
    repository, info, _ = made
    manifest = repository.manifest(info.id)
    for change in ({"entries": manifest.entries - 1}, {"entries": manifest.entries + 1}, {"bytes": manifest.bytes - 1},
                   {"bytes": manifest.bytes + 1}):  # fmt: skip
        with pytest.raises(ObjectDamaged):
            list(counted(repository, manifest.model_copy(update=change)))


def test_a_hash_that_is_another_one_is_told(made: Made) -> None:
    repository, info, _ = made
    entries = list(counted(repository, repository.manifest(info.id)))
    wrong = next(entry for entry in entries if entry.size).model_copy(update={"sha256": "0" * 64})
    with reading(repository, Progress()) as reader:
        _, content = next(reader.contents([wrong]))
        with pytest.raises(ObjectDamaged):
            list(content)
