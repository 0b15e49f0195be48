"""A backup made and made again: whole, consistent, sent once, and never taken from under another's feet."""

import errno
import filecmp
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from carrel.backup import gather, writer
from carrel.backup.catalogue import Collecting, Origin
from carrel.backup.progress import Progress
from carrel.backup.reader import verify
from carrel.backup.repository import Repository
from carrel.backup.run import back_up, clear_scratch
from carrel.backup.staging import stage
from carrel.errors import Conflict
from carrel.objects.directory import DirectoryStore
from carrel.objects.location import parse_location
from carrel.objects.open import open_store
from carrel.objects.pace import Cancelled, Pace
from carrel.objects.protocol import ObjectNotKept, ObjectStore, StoreUnavailable
from carrel.objects.retry import Patience, PatientStore
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import open_beneath
from tests.fakes.backups import KEYS, ORIGIN, full_tenant, means, rows_of, subject, tree
from tests.fakes.clock import FakeClock
from tests.fakes.gcs_server import BUCKET, GoogleStorage, options


class Died(Exception):
    """In the place of a kill: nothing is done about what was written."""


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = full_tenant(tmp_path)
    yield made
    made.root.close()


def restored(place: Path, backup_id: str, target: Path, store: ObjectStore | None = None) -> None:
    repository = Repository.at(store or DirectoryStore(place / "store"), "acme", KEYS)  # type: ignore[arg-type] # an id
    stage(repository, repository.manifest(backup_id), target, Progress(), going=lambda: None)


def test_it_comes_back_byte_by_byte(tenant: Tenant, tmp_path: Path) -> None:
    progress = Progress()
    info = back_up(subject(tenant), means(tmp_path), progress)
    assert (info.host, progress.phase, info.left_out) == ("host-a", "done", 3)
    restored(tmp_path, info.id, tmp_path / "back")
    before, after = tree(tmp_path / "tenants/acme"), tree(tmp_path / "back")
    gone = {path for path in before if path not in after}
    assert {path for path in gone if not path.startswith("snapshots")} == {
        "backups.json", "sandbox/out", "sandbox/up", "sandbox/pipe"
    }  # fmt: skip
    changed = {path for path in after if after[path] != before[path]}
    assert changed <= {"sessions/s_1.jsonl", "usage/ledger.sqlite"}
    assert (tmp_path / "back/sessions/s_1.jsonl").read_bytes() == b'{"a":1}\n{"b":2}\n'
    assert rows_of(tmp_path / "back/usage/ledger.sqlite") == rows_of(tmp_path / "tenants/acme/usage/ledger.sqlite")
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("at", [0, 4096])
def test_a_database_that_is_damaged_is_told_and_all_else_is_in_the_backup(
    tenant: Tenant, tmp_path: Path, at: int
) -> None:
    ledger = tmp_path / "tenants/acme/usage/ledger.sqlite"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[:at] + b"\xff" * (len(whole) - at))
    ledger.with_name("ledger.sqlite-wal").write_bytes(b"")
    for _ in range(2):
        # It is told each time, and not taken for unchanged.
        info = back_up(subject(tenant), means(tmp_path), Progress())
        assert info.damaged == ("usage/ledger.sqlite",)
    repository = Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS)
    assert verify(repository, info.id, Progress()) == []
    assert repository.head()[0].backups[-1].damaged == info.damaged
    [told] = repository.manifest(info.id).damaged
    assert "damaged" in told.why
    restored(tmp_path, info.id, tmp_path / "back")
    before, after = tree(tmp_path / "tenants/acme"), tree(tmp_path / "back")
    changed = {path for path in after if after[path] != before[path]}
    assert changed <= {"sessions/s_1.jsonl"} | ({"usage/ledger.sqlite"} if at else set())
    assert (tmp_path / "back/usage/ledger.sqlite").read_bytes()[max(at, 100) :] == ledger.read_bytes()[max(at, 100) :]


def test_a_damaged_databases_log_is_in_the_backup_too(tenant: Tenant, tmp_path: Path) -> None:
    ledger = tmp_path / "tenants/acme/usage/ledger.sqlite"
    ledger.write_bytes(b"no database" * 1000)
    ledger.with_name("ledger.sqlite-wal").write_bytes(b"its newest rows")
    info = back_up(subject(tenant), means(tmp_path), Progress())
    restored(tmp_path, info.id, tmp_path / "back")
    assert (tmp_path / "back/usage/ledger.sqlite").read_bytes() == b"no database" * 1000
    assert (tmp_path / "back/usage/ledger.sqlite-wal").read_bytes() == b"its newest rows"


@pytest.mark.parametrize("call", ["open_beneath", "pread"])
def test_what_the_disk_does_not_give_is_told_and_all_else_is_in_the_backup(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real, broken = open_beneath, set[int]()

    def opened(directory: int, path: str, flags: int, mode: int = 0) -> int:
        fd = real(directory, path, flags, mode)
        if path == "data.bin":
            if call == "open_beneath":
                os.close(fd)
                raise OSError(errno.EIO, "broken")
            broken.add(fd)
        return fd

    def pread(fd: int, count: int, at: int) -> bytes:
        if fd in broken:
            broken.discard(fd)
            raise OSError(errno.EIO, "broken")
        return os_pread(fd, count, at)

    os_pread = os.pread
    monkeypatch.setattr(gather, "open_beneath", opened)
    monkeypatch.setattr(os, "pread", pread)
    info = back_up(subject(tenant), means(tmp_path), Progress())
    assert (info.damaged, info.left_out) == (("sandbox/data.bin",), 4)
    restored(tmp_path, info.id, tmp_path / "back")
    assert (tmp_path / "back/sandbox/main.py").exists()
    assert not (tmp_path / "back/sandbox/data.bin").exists()


def test_older_versions_read_the_list_of_what_is_whole(tenant: Tenant, tmp_path: Path) -> None:
    info = back_up(subject(tenant), means(tmp_path), Progress())
    assert "damaged" not in info.model_dump_json()
    assert '"damaged":["a"]' in info.model_copy(update={"damaged": ("a",)}).model_dump_json()


def test_what_is_there_is_not_sent_again(tenant: Tenant, tmp_path: Path) -> None:
    store = Counting(DirectoryStore(tmp_path / "store"))
    back_up(subject(tenant), means(tmp_path, store=store), Progress())
    # Looking at the ledger for the first time leaves a trace on its file, which the index then notes.
    first = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    store.pieces.clear()
    second = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    assert (second.files, second.bytes, second.sent) == (first.files, first.bytes, 0)
    assert not store.pieces
    (tmp_path / "tenants/acme/sandbox/small-7.txt").write_text("another")
    with (tmp_path / "tenants/acme/sandbox/data.bin").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
    back_up(subject(tenant), means(tmp_path, store=store), Progress())
    # The block that changed, the small file, and the index that names them.
    assert len(store.pieces) == 3


def test_a_ledger_that_is_written_is_copied_at_one_moment(tenant: Tenant, tmp_path: Path) -> None:
    writing = apsw.Connection(str(tmp_path / "tenants/acme/usage/ledger.sqlite"))
    writing.execute("BEGIN IMMEDIATE")
    writing.execute("INSERT INTO rows (cost) VALUES ('half')")
    info = back_up(subject(tenant), means(tmp_path), Progress())
    writing.execute("COMMIT")
    second = back_up(subject(tenant), means(tmp_path), Progress())
    writing.close()
    restored(tmp_path, info.id, tmp_path / "first")
    restored(tmp_path, second.id, tmp_path / "second")
    assert len(rows_of(tmp_path / "first/usage/ledger.sqlite")) == 2000
    assert rows_of(tmp_path / "second/usage/ledger.sqlite")[-1] == (2001, "half")


def test_one_that_broke_off_goes_on_from_what_was_sent(tenant: Tenant, tmp_path: Path) -> None:
    store = Counting(DirectoryStore(tmp_path / "store"), most=2)
    with pytest.raises(StoreUnavailable):
        back_up(subject(tenant), means(tmp_path, store=store), Progress())
    sent = set(store.pieces)
    assert sent
    store.pieces.clear()
    store.most = 1000
    info = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    assert not sent & set(store.pieces)
    restored(tmp_path, info.id, tmp_path / "back")


@pytest.mark.parametrize(("ends", "removes"), [(ObjectNotKept, True), (ObjectNotKept, False), (Died, True)])
def test_what_a_store_took_wrongly_is_not_relied_on_by_the_next(
    tenant: Tenant, tmp_path: Path, ends: type[Exception], *, removes: bool
) -> None:
    store = Wrong(tmp_path / "store", ends=ends, removes=removes)
    with pytest.raises(ends):
        back_up(subject(tenant), means(tmp_path, store=store), Progress())
    assert store.wrong
    repository = Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS)
    there = {info.key for _, info in repository.pieces()}
    assert (store.wrong in there) == (ends is Died or not removes)
    honest = Counting(DirectoryStore(tmp_path / "store"))
    info = back_up(subject(tenant), means(tmp_path, store=honest), Progress())
    assert verify(repository, info.id, Progress()) == []
    # What was sent well is read back, and not sent again.
    assert not set(honest.pieces) & (there - {store.wrong})
    assert store.wrong in honest.pieces


def test_what_the_last_backup_names_is_not_read_back_where_it_moved(tenant: Tenant, tmp_path: Path) -> None:
    sandbox = tmp_path / "tenants/acme/sandbox"
    back_up(subject(tenant), means(tmp_path), Progress())
    store = Counting(DirectoryStore(tmp_path / "store"))
    (sandbox / "data.bin").rename(sandbox / "a-first.bin")
    info = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    found = {entry.path: entry for entry in Repository.at(store, tenant.id, KEYS).entries(
        Repository.at(store, tenant.id, KEYS).manifest(info.id))}  # fmt: skip
    moved = {part.piece for part in found["sandbox/a-first.bin"].parts if part.length >= 1 << 20}
    assert moved
    assert not moved & {key.rpartition("/")[2] for key in (*store.pieces, *store.read)}


def test_a_stopped_one_ends_and_is_in_no_list(tenant: Tenant, tmp_path: Path) -> None:
    work = means(tmp_path)
    work.pace.stop()
    with pytest.raises(Cancelled):
        back_up(subject(tenant), work, Progress())
    assert Repository.at(DirectoryStore(tmp_path / "store"), tenant.id, KEYS).head()[0].backups == ()


def test_two_hosts_at_a_time_lose_neither_backup(tenant: Tenant, tmp_path: Path) -> None:
    store = Between(DirectoryStore(tmp_path / "store"), "acme/manifests/")
    other = replace(subject(tenant), origin=Origin(host="host-b", carrel="0", revision="", declared=""))
    store.then = lambda: back_up(other, means(tmp_path), Progress())
    mine = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    head = Repository.at(store, tenant.id, KEYS).head()[0]
    assert {one.host for one in head.backups} == {"host-a", "host-b"}
    assert head.backups[-1] == mine
    for one in head.backups:
        assert verify(Repository.at(store, tenant.id, KEYS), one.id, Progress()) == []


def test_one_whose_last_answer_is_lost_is_in_the_list_once(tenant: Tenant, tmp_path: Path) -> None:
    """Another host's came after it, so that the list is not as it was written: it is in it all the same."""
    inner = Between(DirectoryStore(tmp_path / "store"), "acme/head")

    def another_and_lost() -> None:
        back_up(subject(tenant), means(tmp_path), Progress())
        raise StoreUnavailable("the answer is lost")

    inner.then = another_and_lost
    store = PatientStore(inner, pace=Pace(), patience=Patience(attempts=3, first=0.0, most=0.0))
    info = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    listed = [one.id for one in Repository.at(store, tenant.id, KEYS).head()[0].backups]
    assert (len(listed), listed.count(info.id)) == (2, 1)


def test_hosts_at_once_in_googles_store_lose_no_backup(tenant: Tenant, tmp_path: Path) -> None:
    """Of a fake of it that holds conditions as Google does, by generations, and ignores those of S3."""
    place = parse_location(f"s3://{BUCKET}/carrel")

    def host(number: int) -> list[str]:
        store = open_store(place, options(url), patience=Patience(first=0.01, most=0.05))
        mine = replace(subject(tenant), origin=Origin(host=f"host-{number}", carrel="0", revision="", declared=""))
        try:
            return [back_up(mine, means(tmp_path, store=store), Progress()).id for _ in range(2)]
        finally:
            store.close()

    with GoogleStorage() as google:
        url = google.url
        with ThreadPoolExecutor(4) as pool:
            made = [one for some in pool.map(host, range(4)) for one in some]
        store = open_store(place, options(url))
        repository = Repository.at(store, tenant.id, KEYS)
        assert sorted(one.id for one in repository.head()[0].backups) == sorted(made)
        assert repository.head()[0].generation == len(made)
        for one in made:
            assert verify(repository, one, Progress()) == []
        store.close()


def test_pieces_that_were_removed_meanwhile_are_sent_anew(tenant: Tenant, tmp_path: Path) -> None:
    store = Between(DirectoryStore(tmp_path / "store"), "acme/manifests/")

    def collect_everything() -> None:
        repository = Repository.at(store.inner, tenant.id, KEYS)
        head, tag = repository.head()
        repository.commit(head.model_copy(update={"collections": head.collections + 1}), tag)
        store.inner.delete([info.key for _, info in repository.pieces()])

    store.then = collect_everything
    info = back_up(subject(tenant), means(tmp_path, store=store), Progress())
    assert verify(Repository.at(store, tenant.id, KEYS), info.id, Progress()) == []


def test_one_waits_while_pieces_are_removed_and_not_for_ever(tenant: Tenant, tmp_path: Path) -> None:
    clock = FakeClock()
    repository = Repository.make(DirectoryStore(tmp_path / "store"), tenant.id, KEYS, clock.now())
    head, tag = repository.head()
    over = Collecting(by="gone", until=clock.now() - timedelta(seconds=1))
    repository.commit(head.model_copy(update={"collecting": over}), tag)
    back_up(subject(tenant), means(tmp_path, clock=clock), Progress())
    head, tag = repository.head()
    assert (head.collecting, head.collections, len(head.backups)) == (None, 1, 1)
    busy = Collecting(by="busy", until=clock.now() + timedelta(days=1))
    repository.commit(head.model_copy(update={"collecting": busy}), tag)
    work = means(tmp_path, clock=clock)
    work.pace.stop()
    with pytest.raises(Cancelled):
        back_up(subject(tenant), work, Progress())


def test_one_gives_up_where_others_never_rest(tenant: Tenant, tmp_path: Path) -> None:
    store = Between(DirectoryStore(tmp_path / "store"), "acme/manifests/", always=True)

    def collected() -> None:
        repository = Repository.at(store.inner, tenant.id, KEYS)
        head, tag = repository.head()
        repository.commit(head.model_copy(update={"collections": head.collections + 1}), tag)

    store.then = collected
    with pytest.raises(Conflict):
        back_up(subject(tenant), means(tmp_path, store=store), Progress())


def test_nothing_of_a_tenant_is_readable_in_the_store(tenant: Tenant, tmp_path: Path) -> None:
    (tmp_path / "tenants/acme/sandbox/canary-name.txt").write_text("canary-content")
    back_up(subject(tenant), means(tmp_path), Progress())
    for path in (tmp_path / "store").rglob("*"):
        assert "canary" not in path.name
        assert not path.is_file() or b"canary" not in path.read_bytes()


def test_equal_content_has_another_name_for_another_tenant(tmp_path: Path) -> None:
    one, other = full_tenant(tmp_path, "acme", large=0), full_tenant(tmp_path, "zeta", large=0)
    for tenant in (one, other):
        (tmp_path / "tenants" / tenant.id / "sandbox/same.bin").write_bytes(b"same" * 100_000)
        back_up(subject(tenant), means(tmp_path), Progress())
        tenant.root.close()
    names = [{path.name for path in (tmp_path / "store" / name / "pieces").rglob("*") if path.is_file()}
             for name in ("acme", "zeta")]  # fmt: skip
    assert names[0]
    assert not names[0] & names[1]


def test_what_a_killed_one_left_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "scratch/left").mkdir(parents=True)
    (tmp_path / "scratch/left/database-1").write_bytes(b"x")
    clear_scratch(tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()
    assert ORIGIN.host
    assert os.listdir(tmp_path) == []


class Counting(DirectoryStore):
    """Notes pieces that are written; fails after ``most`` of them."""

    def __init__(self, inner: DirectoryStore, *, most: int = 1000) -> None:
        super().__init__(inner._path)
        self.most = most
        self.pieces: list[str] = []
        self.read: list[str] = []

    def get(self, key: str, *, most: int) -> tuple[bytes, str]:
        self.read.append(key)
        return super().get(key, most=most)

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        if "/pieces/" in key:
            if len(self.pieces) >= self.most:
                raise StoreUnavailable("enough")
            self.pieces.append(key)
        return super().put(key, data, replaces=replaces, absent=absent)


class Between(DirectoryStore):
    """Calls ``then`` once after the first write of a key that begins with ``after``, or after each."""

    def __init__(self, inner: DirectoryStore, after: str, *, always: bool = False) -> None:
        super().__init__(inner._path)
        self.inner = inner
        self.then: object = None
        self._after = after
        self._always = always

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        tag = super().put(key, data, replaces=replaces, absent=absent)
        if key.startswith(self._after) and self.then is not None:
            then = self.then
            self.then = then if self._always else None
            then()  # type: ignore[operator] # see above
        return tag


class Wrong(DirectoryStore):
    """A store that keeps the first large piece otherwise than it was sent; then the run ``ends``."""

    def __init__(self, place: Path, *, ends: type[Exception], removes: bool) -> None:
        super().__init__(place)
        self.wrong = ""
        self._ends, self._removes = ends, removes

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        if "/pieces/" in key and len(data) > 1 << 20 and not self.wrong:
            self.wrong = key
            super().put(key, data[:-1] + bytes([data[-1] ^ 1]))
            raise self._ends("not as it was sent")
        return super().put(key, data, replaces=replaces, absent=absent)

    def delete(self, keys: Sequence[str]) -> None:
        if not self._removes and "/pieces/" in keys[0]:
            raise StoreUnavailable("not now")
        super().delete(keys)


class CutOff(DirectoryStore):
    """A store that breaks off after so many pieces, and counts the bytes of those that it took."""

    def __init__(self, place: Path, *, most: int) -> None:
        super().__init__(place)
        self.left, self.bytes = most, 0

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        if "/pieces/" in key:
            self.left -= 1
            if self.left < 0:
                raise StoreUnavailable("the way is cut")
            self.bytes += len(data)
        return super().put(key, data, replaces=replaces, absent=absent)


def test_a_large_file_that_broke_off_in_the_middle_goes_on_from_there(tenant: Tenant, tmp_path: Path) -> None:
    large = tmp_path / "tenants/acme/sandbox/large"
    with large.open("wb") as file:
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    first = CutOff(tmp_path / "store", most=14)
    with pytest.raises(StoreUnavailable):
        back_up(subject(tenant), means(tmp_path, store=first), Progress())
    assert first.bytes > 10 << 20
    second = CutOff(tmp_path / "store", most=1000)
    info = back_up(subject(tenant), means(tmp_path, store=second), Progress())
    # Nothing that was there is sent again: both together are no more than all of it once.
    assert first.bytes + second.bytes < info.bytes + (2 << 20)
    restored(tmp_path, info.id, tmp_path / "back")
    assert filecmp.cmp(large, tmp_path / "back/sandbox/large", shallow=False)


def test_holes_take_no_time_and_no_room(tenant: Tenant, tmp_path: Path) -> None:
    sparse = tmp_path / "tenants/acme/sandbox/sparse"
    with sparse.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 40)
        file.write(b"middle" * 100_000)
        file.truncate(3 << 40)
    (tmp_path / "tenants/acme/sandbox/hollow").touch()
    os.truncate(tmp_path / "tenants/acme/sandbox/hollow", 5 << 40)
    info = back_up(subject(tenant), means(tmp_path), Progress())
    assert info.bytes > 8 << 40
    assert verify(Repository.at(means(tmp_path).store, tenant.id, KEYS), info.id, Progress()) == []
    restored(tmp_path, info.id, tmp_path / "back")
    back = tmp_path / "back/sandbox/sparse"
    assert back.stat().st_size == 3 << 40
    assert back.stat().st_blocks * 512 < 8 << 20
    with back.open("rb") as file:
        assert file.read(7) == b"begin\0\0"
        file.seek((1 << 40) - 1)
        assert file.read(1 + 600_001) == b"\0" + b"middle" * 100_000 + b"\0"
    assert (tmp_path / "back/sandbox/hollow").stat().st_size == 5 << 40
    assert back_up(subject(tenant), means(tmp_path), Progress()).sent < 64 << 10


def test_a_file_that_no_line_of_the_index_can_hold_is_left_out_and_told(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_PARTS", 2)
    info = back_up(subject(tenant), means(tmp_path), Progress())
    manifest = Repository.at(means(tmp_path).store, tenant.id, KEYS).manifest(info.id)
    why = {one.path: one.why for one in manifest.left_out_named}
    assert "800 GB" in why["sandbox/data.bin"]


def test_what_a_round_costs_of_which_little_changed(tenant: Tenant, tmp_path: Path) -> None:
    class Counting(DirectoryStore):
        def __init__(self) -> None:
            super().__init__(tmp_path / "store")
            self.seen: list[str] = []

        def get(self, key: str, *, most: int) -> tuple[bytes, str]:
            self.seen.append(f"get {key.split('/')[1]}")
            return super().get(key, most=most)

        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            self.seen.append(f"put {key.split('/')[1]}")
            return super().put(key, data, replaces=replaces, absent=absent)

    store = Counting()
    work = means(tmp_path, store=store)
    back_up(subject(tenant), work, Progress())
    store.seen.clear()
    back_up(subject(tenant), work, Progress())
    assert [one for one in store.seen if one != "put pieces"] == [
        "get repository.json", "get repository.copy.json", "get head", "get manifests", "get pieces", "put manifests",
        "get head", "put head",
    ]  # fmt: skip
