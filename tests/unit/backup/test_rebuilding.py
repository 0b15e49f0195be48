"""A list of backups that is damaged or gone: everything can be brought back, and the next backup mends it."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.backup.catalogue import BackupInfo, Head, Manifest
from carrel.backup.keyfile import COPY, FIRST
from carrel.backup.progress import Progress
from carrel.backup.reader import verify
from carrel.backup.rebuilding import heal, list_of
from carrel.backup.repository import Repository
from carrel.backup.restore import chosen, prepare
from carrel.backup.retention import Keep, collect
from carrel.backup.run import Means, back_up
from carrel.backup.swap import staged
from carrel.objects.directory import DirectoryStore
from carrel.objects.protocol import ObjectDamaged
from carrel.tenancy.handle import Tenant
from tests.fakes.backups import KEYS, full_tenant, means, subject, tree
from tests.fakes.clock import FakeClock


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = full_tenant(tmp_path, large=0)
    yield made
    made.root.close()


def spoil(place: Path, how: str) -> None:
    head = place / "store/acme/head"
    match how:
        case "gone":
            head.unlink()
        case "cut":
            head.write_bytes(head.read_bytes()[:10])
        case _:
            data = bytearray(head.read_bytes())
            data[-1] ^= 1
            head.write_bytes(data)


def backed_up(tenant: Tenant, place: Path, work: Means, clock: FakeClock) -> list[BackupInfo]:
    made = []
    for number in range(2):
        (place / "tenants/acme/sandbox/small-7.txt").write_text(f"another {number}" * 100)
        made.append(back_up(subject(tenant), work, Progress()))
        clock.advance(60)
    return made


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_all_is_listed_brought_back_and_mended(tenant: Tenant, tmp_path: Path, how: str) -> None:
    clock = FakeClock()
    work = means(tmp_path, clock=clock)
    made = backed_up(tenant, tmp_path, work, clock)
    repository = Repository.at(work.store, tenant.id, KEYS)
    spoil(tmp_path, how)
    found, wrong = list_of(repository)
    assert [one.id for one in found.backups] == [one.id for one in made]
    assert (wrong != "", found.backups[0].files) == (True, made[0].files)
    assert chosen(repository, None).id == made[-1].id
    home = tmp_path / "elsewhere"
    home.mkdir()
    assert prepare(repository, home, tenant.id, made[0].id, means=work, progress=Progress()).backup == made[0].id
    newest = back_up(subject(tenant), work, Progress())
    head, tag = repository.head()
    assert [one.id for one in head.backups] == [*(one.id for one in made), newest.id]
    assert tag is not None
    assert list_of(repository) == (head, "")


def test_what_lacks_a_piece_is_not_in_it(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    first = back_up(subject(tenant), work, Progress())
    (tmp_path / "tenants/acme/sandbox/small-7.txt").write_text("another" * 100)
    second = back_up(subject(tenant), work, Progress())
    repository = Repository.at(work.store, tenant.id, KEYS)
    names = {info.id: set(repository.manifest(info.id).index) for info in (first, second)}
    [gone] = names[first.id] - names[second.id]
    (tmp_path / f"store/acme/pieces/{gone[:2]}/{gone}").unlink()
    spoil(tmp_path, "flipped")
    heal(repository)
    assert [one.id for one in repository.head()[0].backups] == [second.id]


def test_what_lacks_content_of_a_file_is_in_it_with_all_else(tenant: Tenant, tmp_path: Path) -> None:
    clock = FakeClock(datetime.now(UTC) + timedelta(days=3))
    work = means(tmp_path, clock=clock)
    (tmp_path / "tenants/acme/sandbox/large.bin").write_bytes(os.urandom(2 << 20))
    made = []
    for _ in range(3):
        (tmp_path / "tenants/acme/sandbox/own.bin").write_bytes(os.urandom(2 << 20))
        made.append(back_up(subject(tenant), work, Progress()))
        clock.advance(60)
    repository = Repository.at(work.store, tenant.id, KEYS)
    [own] = [one for one in repository.entries(repository.manifest(made[-1].id)) if one.path == "sandbox/own.bin"]
    piece = own.parts[0].piece
    (tmp_path / f"store/acme/pieces/{piece[:2]}/{piece}").unlink()
    spoil(tmp_path, "flipped")
    heal(repository)
    head, _ = repository.head()
    assert [(one.id, one.lost) for one in head.backups] == [
        (made[0].id, ()), (made[1].id, ()), (made[2].id, ("sandbox/own.bin",))
    ]  # fmt: skip
    assert chosen(repository, None).id == made[1].id, "the newest that is whole"
    home = tmp_path / "elsewhere"
    home.mkdir()
    with pytest.raises(ObjectDamaged, match=r"sandbox/own.bin: .*--skip-damaged"):
        prepare(repository, home, tenant.id, made[2].id, means=work, progress=Progress())
    assert list(home.iterdir()) == []
    done = prepare(repository, home, tenant.id, made[2].id, means=work, progress=Progress(), skip_damaged=True)
    assert done.lost == ("sandbox/own.bin",)
    before, after = tree(tmp_path / "tenants/acme/sandbox"), tree(staged(home, tenant.id) / "sandbox")
    assert {path for path in before if before[path] != after.get(path)} == {"own.bin", "out", "up", "pipe"}
    # It takes nobody's place, and what only it has is not removed as what nobody needs.
    collect(repository, Keep(1, 0, 0, 0), work)
    assert [one.id for one in repository.head()[0].backups] == [made[1].id, made[2].id]
    assert verify(repository, made[1].id, Progress()) == []
    [problem] = verify(repository, made[2].id, Progress())
    assert problem.startswith("sandbox/own.bin")
    # The next backup sends it again, for it still has that file.
    back_up(subject(tenant), work, Progress())
    assert [one.lost for one in repository.head()[0].backups] == [(), (), ()]
    assert verify(repository, made[2].id, Progress()) == []
    assert head.backups[2].lost == ("sandbox/own.bin",)


def test_without_the_key_of_what_is_there_nothing_is_begun_anew(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    back_up(subject(tenant), work, Progress())
    files = [tmp_path / "store/acme" / name for name in (FIRST, COPY)]
    own = files[0].read_bytes()
    for file in files:
        file.unlink()
    with pytest.raises(ObjectDamaged, match=r"their key.* is gone"):
        back_up(subject(tenant), work, Progress())
    other = means(tmp_path / "other")
    back_up(subject(tenant), other, Progress())
    for file in files:
        file.write_bytes((tmp_path / "other/store/acme" / FIRST).read_bytes())
    before = tree(tmp_path / "store")
    with pytest.raises(ObjectDamaged, match="still the one"):
        back_up(subject(tenant), work, Progress())
    assert tree(tmp_path / "store") == before
    files[0].write_bytes(own)
    back_up(subject(tenant), work, Progress())
    assert len(Repository.at(work.store, tenant.id, KEYS).head()[0].backups) == 2


def test_a_first_manifest_that_was_kept_wrongly_stands_in_nobodys_way(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    first = back_up(subject(tenant), work, Progress())
    spoil(tmp_path, "gone")
    (tmp_path / f"store/acme/manifests/{first.id}").write_bytes(b"half")
    second = back_up(subject(tenant), work, Progress())
    assert [one.id for one in Repository.at(work.store, tenant.id, KEYS).head()[0].backups] == [second.id]


def test_a_repository_without_backups_and_one_that_is_well_are_left_alone(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    repository = Repository.make(work.store, tenant.id, KEYS, work.clock.now())
    heal(repository)
    assert repository.head() == (Head(), None)
    back_up(subject(tenant), work, Progress())
    before = repository.head()
    heal(repository)
    assert repository.head() == before


def test_who_began_before_looks_anew_and_who_removes_stops(tenant: Tenant, tmp_path: Path) -> None:
    # What is removed is older than a day, as the disk's clock has it.
    clock = FakeClock(datetime.now(UTC) + timedelta(days=3))
    work = means(tmp_path, clock=clock)
    made = backed_up(tenant, tmp_path, work, clock)
    began = Repository.at(work.store, tenant.id, KEYS).head()[0].collections

    class Meanwhile(DirectoryStore):
        """The list is damaged, and another host mends it, as soon as something is to be removed."""

        healed = False

        def list(self, prefix: str):  # type: ignore[no-untyped-def] # as the other
            if prefix.endswith("manifests/") and not self.healed:
                self.healed = True
                spoil(tmp_path, "flipped")
                heal(Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS))
            return super().list(prefix)

    store = Meanwhile(tmp_path / "store")
    repository = Repository.at(store, tenant.id, KEYS)
    collect(repository, Keep(1, 0, 0, 0), replace(work, store=store))
    assert store.healed
    head, _ = repository.head()
    assert head.collections != began
    assert {one.id for one in head.backups} == {one.id for one in made}
    for one in head.backups:
        assert verify(repository, one.id, Progress()) == []


def test_a_list_that_does_not_read_is_still_an_error_to_who_changes_it(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    back_up(subject(tenant), work, Progress())
    spoil(tmp_path, "flipped")
    with pytest.raises(ObjectDamaged):
        Repository.at(work.store, tenant.id, KEYS).head()


@pytest.mark.parametrize("how", ["gone", "flipped"])
def test_what_another_host_lists_meanwhile_is_not_dropped(tenant: Tenant, tmp_path: Path, how: str) -> None:
    work = means(tmp_path)
    back_up(subject(tenant), work, Progress())
    spoil(tmp_path, how)

    class Meanwhile(DirectoryStore):
        """Another host mends the list, and adds a backup, while this one is about to."""

        added = ""

        def list(self, prefix: str):  # type: ignore[no-untyped-def] # as the other
            found = list(super().list(prefix))
            if prefix.endswith("pieces/") and not self.added:
                self.added = back_up(subject(tenant), work, Progress()).id
            return iter(found)

    store = Meanwhile(tmp_path / "store")
    heal(Repository.at(store, tenant.id, KEYS))
    head, _ = Repository.at(work.store, tenant.id, KEYS).head()
    assert store.added in {one.id for one in head.backups}


@pytest.mark.parametrize("what", ["head", "manifest"])
def test_what_a_later_version_wrote_is_not_made_anew(tenant: Tenant, tmp_path: Path, what: str) -> None:
    work = means(tmp_path)
    made = [back_up(subject(tenant), work, Progress()) for _ in range(2)]
    repository = Repository.at(work.store, tenant.id, KEYS)
    if what == "head":
        head, tag = repository.head()
        write_later(repository, "head", head, "head", tag)
    else:
        write_later(repository, "manifest", repository.manifest(made[0].id), f"manifests/{made[0].id}", None)
        spoil(tmp_path, "flipped")
    before = (tmp_path / "store/acme/head").read_bytes()
    with pytest.raises(ObjectDamaged, match="later version"):
        back_up(subject(tenant), work, Progress())
    assert (tmp_path / "store/acme/head").read_bytes() == before


def write_later(repository: Repository, kind: str, found: Head | Manifest, key: str, tag: str | None) -> None:
    """Put what has one field more in the place of ``found``."""
    content = json.dumps({**found.model_dump(mode="json"), "of_a_later_version": 1}).encode()
    sealed = repository._sealer.seal(kind, key.rpartition("/")[2], content)
    repository.store.put(f"acme/{key}", sealed, replaces=tag)
