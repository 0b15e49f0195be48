"""One tenant's repository: its key, its list, and what happens to what is not as it was written."""

import json
from pathlib import Path

import pytest

from carrel.backup.catalogue import Entry, Head, Manifest, Origin
from carrel.backup.keyfile import NoRepository
from carrel.backup.repository import Repository
from carrel.errors import CarrelError, UnsafePath
from carrel.ids import TenantId
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, StoreRefused
from carrel.vault.box import SealBroken
from carrel.vault.keys import MasterKeys, MasterKeyUnusable
from tests.fakes.backups import KEYS
from tests.fakes.clock import FakeClock

ACME, ZETA = TenantId("acme"), TenantId("zeta")
NOW = FakeClock().now()
BOTH = MasterKeys({1: b"1" * 32, 2: b"2" * 32}, source="test")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path)


def test_made_once_and_found_again(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(NoRepository):
        Repository.at(store, ACME, KEYS)
    made = Repository.make(store, ACME, KEYS, NOW)
    assert Repository.make(store, ACME, KEYS, NOW).id == Repository.at(store, ACME, KEYS).id == made.id
    assert {path.name for path in (tmp_path / "acme").iterdir()} == {"repository.json", "repository.copy.json"}


def test_S5_04_another_key_opens_nothing(store: DirectoryStore) -> None:
    Repository.make(store, ACME, KEYS, NOW)
    with pytest.raises(SealBroken):
        Repository.at(store, ACME, MasterKeys({1: b"x" * 32}, source="test"))
    with pytest.raises(MasterKeyUnusable):
        Repository.at(store, ACME, MasterKeys({2: b"2" * 32}, source="test"))


def test_S5_04_the_key_follows_the_master_key(store: DirectoryStore) -> None:
    made = Repository.make(store, ACME, KEYS, NOW)
    name = made.name(b"content")
    made.put_piece(name, b"content")
    assert Repository.make(store, ACME, BOTH, NOW).piece(name) == b"content"
    assert Repository.at(store, ACME, MasterKeys({2: b"2" * 32}, source="test")).piece(name) == b"content"


def test_S9_01_a_repository_that_was_moved_is_not_taken(store: DirectoryStore, tmp_path: Path) -> None:
    Repository.make(store, ACME, KEYS, NOW)
    (tmp_path / "acme").rename(tmp_path / "zeta")
    with pytest.raises(ObjectDamaged):
        Repository.at(store, ZETA, KEYS)
    file = tmp_path / "zeta/repository.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tenant": "zeta"}))
    with pytest.raises(SealBroken):
        Repository.at(store, ZETA, KEYS)
    file.write_text("{}")
    with pytest.raises(ObjectDamaged):
        Repository.at(store, ZETA, KEYS)


def test_the_list_is_replaced_on_condition(store: DirectoryStore) -> None:
    repository = Repository.make(store, ACME, KEYS, NOW)
    head, tag = repository.head()
    assert (head, tag) == (Head(), None)
    repository.commit(head, tag)
    with pytest.raises(ObjectChanged):
        repository.commit(head, tag)
    head, tag = repository.head()
    assert head.generation == 1
    repository.commit(head, tag)
    with pytest.raises(ObjectChanged):
        repository.commit(head, tag)


def test_a_piece_that_is_damaged_or_another_one_is_told(store: DirectoryStore, tmp_path: Path) -> None:
    repository = Repository.make(store, ACME, KEYS, NOW)
    one, other = repository.name(b"one"), repository.name(b"other")
    repository.put_piece(one, b"one")
    repository.put_piece(other, b"other")
    path = tmp_path / "acme/pieces" / one[:2] / one
    path.write_bytes((tmp_path / "acme/pieces" / other[:2] / other).read_bytes())
    with pytest.raises(ObjectDamaged):
        repository.piece(one)


def manifest_of(repository: Repository, *entries: Entry) -> Manifest:
    lines = b"".join(entry.model_dump_json().encode() + b"\n" for entry in entries)
    name = repository.name(lines)
    repository.put_piece(name, lines)
    return Manifest(
        id="20260101T000000Z-00000000", tenant="acme", at=NOW, index=(name,), entries=len(entries), files=0, bytes=0,
        origin=Origin(host="h", carrel="0", revision="", declared=""),
    )  # fmt: skip


def test_S9_01_entries_twice_or_out_of_order_or_out_of_place_are_not_taken(store: DirectoryStore) -> None:
    repository = Repository.make(store, ACME, KEYS, NOW)
    a, b = Entry(path="sandbox/a", kind="file"), Entry(path="sandbox/b", kind="file")
    assert list(repository.entries(manifest_of(repository, a, b))) == [a, b]
    for wrong in ((a, a), (b, a)):
        with pytest.raises(ObjectDamaged):
            list(repository.entries(manifest_of(repository, *wrong)))
    with pytest.raises(UnsafePath):
        list(repository.entries(manifest_of(repository, Entry(path="../a", kind="file"))))


def test_a_manifest_of_another_backup_is_told(store: DirectoryStore, tmp_path: Path) -> None:
    repository = Repository.make(store, ACME, KEYS, NOW)
    manifest = manifest_of(repository)
    repository.put_manifest(manifest)
    assert repository.manifest(manifest.id) == manifest
    assert [one.key for one in repository.manifests()] == [f"acme/manifests/{manifest.id}"]
    path = tmp_path / "acme/manifests" / manifest.id
    path.rename(path.with_name("20260101T000000Z-11111111"))
    with pytest.raises(ObjectDamaged):
        repository.manifest("20260101T000000Z-11111111")


def test_nothing_of_another_tenants_is_removed(store: DirectoryStore) -> None:
    repository = Repository.make(store, ACME, KEYS, NOW)
    with pytest.raises(CarrelError):
        list(repository.remove(["acme-evil/head"]))
    assert list(repository.remove(["acme/none"])) == [1]


def test_nothing_is_begun_where_conditions_do_not_hold(tmp_path: Path) -> None:
    class Ignoring(DirectoryStore):
        def require_conditions(self) -> None:
            raise StoreRefused("This store ignores conditional writes.")

    with pytest.raises(StoreRefused, match="conditional writes"):
        Repository.make(Ignoring(tmp_path), ACME, KEYS, NOW)
    assert list(tmp_path.iterdir()) == []
    # Nor is anything added to what is there.
    Repository.make(DirectoryStore(tmp_path), ACME, KEYS, NOW)
    with pytest.raises(StoreRefused, match="conditional writes"):
        Repository.make(Ignoring(tmp_path), ACME, KEYS, NOW)
