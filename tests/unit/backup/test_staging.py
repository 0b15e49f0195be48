"""Laid out beside the live directory: whole and judged, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.backup import staging
from carrel.backup.catalogue import BackupInfo, Entry, Manifest
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.backup.run import back_up
from carrel.backup.staging import LOOK_BYTES, Room, plan, stage
from carrel.errors import CarrelError, StorageFull, TooLarge
from carrel.objects.directory import DirectoryStore
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectDamaged
from carrel.tenancy.removal import remove_tree
from tests.fakes.backups import KEYS, full_tenant, means, subject, tree

Made = tuple[Repository, BackupInfo]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    tenant = full_tenant(tmp_path)
    (tmp_path / "tenants/acme/credentials/vault").mkdir()
    (tmp_path / "tenants/acme/credentials/vault/KEY.sealed").write_bytes(b"sealed")
    info = back_up(subject(tenant), means(tmp_path), Progress())
    yield Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS), info
    tenant.root.close()


def test_a_plan_counts_and_fetches_no_content(made: Made) -> None:
    repository, info = made
    found = plan(repository, info.id)
    assert (found.files, found.bytes, found.links) == (info.files, info.bytes, 2)
    assert set(found.sessions) == {"sessions/s_1.jsonl", "sessions.d/member-ann/s_2.jsonl"}
    assert found.secrets == ["credentials/vault/KEY.sealed"]


def hostile(repository: Repository, manifest: Manifest, *entries: Entry) -> Manifest:
    lines = b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
    name = repository.name(lines)
    repository.put_piece(name, lines)
    return manifest.model_copy(update={"index": (name,), "entries": len(entries), "bytes": 0})


def test_S9_01_no_entry_reaches_out_of_its_tree(made: Made, tmp_path: Path) -> None:
    repository, info = made
    manifest, target = repository.manifest(info.id), tmp_path / "out"
    workspace = Entry(path="sandbox", kind="directory", mode=0o700)
    for name, *entries in (
        ("above", Entry(path="../evil", kind="file")),
        ("absolute", Entry(path="/etc/evil", kind="file")),
        ("link out", workspace, Entry(path="sandbox/l", kind="link", target="/etc")),
        (
            "through a link",
            workspace,
            Entry(path="sandbox/l", kind="link", target="d"),
            Entry(path="sandbox/l/evil", kind="file"),
        ),
        ("without its directory", Entry(path="sandbox/a", kind="file")),
        ("a directory that is a file", Entry(path="sandbox", kind="file"), Entry(path="sandbox/a", kind="file")),
        ("one too many", workspace, Entry(path="sandbox/a", kind="file", size=1)),
    ):
        wrong = hostile(repository, manifest, *entries)
        with pytest.raises(CarrelError):
            stage(repository, wrong, target, Progress(), going=lambda: None)
        assert not target.exists(), name
    assert not list(tmp_path.rglob("evil"))
    fine = hostile(repository, manifest, workspace, Entry(path="sandbox/l", kind="link", target="d"))
    stage(repository, fine, target, Progress(), going=lambda: None)
    assert tree(target) == {"sandbox": ("directory", 0o700, ""), "sandbox/l": ("link", 0, "d")}


def test_what_is_damaged_leaves_nothing(made: Made, tmp_path: Path) -> None:
    repository, info = made
    manifest = repository.manifest(info.id)
    for path in (tmp_path / "store/acme/pieces").rglob("*"):
        if path.is_file() and path.name not in manifest.index:
            path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ObjectDamaged):
        stage(repository, manifest, tmp_path / "out", Progress(), going=lambda: None)
    assert not (tmp_path / "out").exists()


def test_what_has_no_room_is_not_begun(made: Made, tmp_path: Path) -> None:
    repository, info = made
    manifest = repository.manifest(info.id)
    for change in ({"bytes": 1 << 59}, {"entries": 1 << 59}):
        with pytest.raises(TooLarge):
            stage(repository, manifest.model_copy(update=change), tmp_path / "out", Progress(), going=lambda: None)


def test_one_that_is_stopped_leaves_nothing(made: Made, tmp_path: Path) -> None:
    repository, info = made
    pace = Pace()
    pace.stop()
    with pytest.raises(Cancelled):
        stage(repository, repository.manifest(info.id), tmp_path / "out", Progress(), going=pace.check)
    assert not (tmp_path / "out").exists()


def test_closed_directories_come_back_closed_and_can_be_removed(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path, large=0)
    closed = tmp_path / "tenants/acme/sandbox/deep"
    closed.chmod(0o555)
    info = back_up(subject(tenant), means(tmp_path), Progress())
    repository = Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS)
    stage(repository, repository.manifest(info.id), tmp_path / "out", Progress(), going=lambda: None)
    assert tree(tmp_path / "out")["sandbox/deep"] == ("directory", 0o555, "")
    remove_tree(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    remove_tree(tmp_path / "out")
    closed.chmod(0o755)
    tenant.root.close()


def test_the_reserve_of_the_disk_is_left(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, info = made
    monkeypatch.setattr(staging, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(TooLarge):
        stage(repository, repository.manifest(info.id), tmp_path / "out", Progress(), going=lambda: None)


def test_what_is_written_leaves_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path)
    for _ in range(4):
        room.spend(LOOK_BYTES)
    monkeypatch.setattr(staging, "RESERVE_BYTES", 1 << 62)
    room.spend(LOOK_BYTES - 1)
    with pytest.raises(StorageFull):
        room.spend(1)
