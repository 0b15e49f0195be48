"""How content is cut: the same gives the same pieces, and little changes little."""

import threading
from pathlib import Path

import pytest

from carrel.backup import writer
from carrel.backup.catalogue import Entry
from carrel.backup.gather import Gathering
from carrel.backup.progress import Progress
from carrel.backup.repository import Repository
from carrel.backup.writer import BUNDLE, Pieces, Writer, Written
from carrel.ids import TenantId
from carrel.objects.directory import DirectoryStore
from carrel.tenancy.handle import Tenant
from tests.fakes.backups import KEYS, full_tenant
from tests.fakes.clock import FakeClock
from tests.fakes.patience import PATIENCE


def write(tenant: Tenant, place: Path) -> tuple[Written, Repository]:
    repository = Repository.make(DirectoryStore(place / "store"), tenant.id, KEYS, FakeClock().now())
    pieces = Pieces(repository, {name for name, _ in repository.pieces()}, Progress())
    walk = Gathering(tenant.root.fd, owner=tenant.root.owner, left_out=lambda path, why: None, going=lambda: None)
    (place / "temporary").mkdir(exist_ok=True)
    made = Writer(pieces, walk, previous=iter(()), temporary=place / "temporary", left_out=lambda path, why: None,
                  progress=Progress())  # fmt: skip
    try:
        return made.run(), repository
    finally:
        pieces.close()


def entries(repository: Repository, written: Written) -> list[Entry]:
    lines = [line for name in written.index for line in repository.piece(name).splitlines()]
    return [Entry.model_validate_json(line) for line in lines]


def test_small_files_share_pieces_and_large_ones_have_their_own(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path, large=(2 << 20) + 300_000)
    written, repository = write(tenant, tmp_path)
    found = {entry.path: entry for entry in entries(repository, written)}
    assert len(found) == written.entries
    small = {entry.parts[0].piece for path, entry in found.items() if path.startswith("sandbox/small-")}
    assert len(small) < 20
    large = found["sandbox/data.bin"]
    assert [part.length for part in large.parts] == [1 << 20, 1 << 20, 300_000]
    assert found["sandbox/empty"].parts == ()
    for entry in found.values():
        assert sum(part.length for part in entry.parts) == entry.size
        assert all(part.offset + part.length <= BUNDLE for part in entry.parts)
    tenant.root.close()


def test_what_waits_to_be_sent_is_told_as_such(tmp_path: Path) -> None:
    reached, released = threading.Event(), threading.Event()

    class Held(DirectoryStore):
        def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
            reached.set()
            assert released.wait(PATIENCE)
            return super().put(key, data, replaces=replaces, absent=absent)

    place, progress = tmp_path / "store", Progress()
    repository = Repository.make(DirectoryStore(place), TenantId("acme"), KEYS, FakeClock().now())
    repository.store = Held(place)
    pieces = Pieces(repository, set(), progress)
    pieces.put(b"content")
    progress.done += 7
    assert reached.wait(PATIENCE)
    assert (progress.flying, progress.settled) == (7, 0)
    released.set()
    pieces.finish()
    pieces.close()
    assert (progress.flying, progress.settled) == (0, 7)


def test_very_large_files_are_cut_into_larger_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "LARGE", 2 << 20)
    monkeypatch.setattr(writer, "LARGE_BLOCK", 2 << 20)
    tenant = full_tenant(tmp_path, large=(5 << 20) + 300_000)
    written, repository = write(tenant, tmp_path)
    large = next(entry for entry in entries(repository, written) if entry.path == "sandbox/data.bin")
    assert [part.length for part in large.parts] == [2 << 20, 2 << 20, (1 << 20) + 300_000]
    read = b"".join(repository.piece(part.piece) for part in large.parts)
    assert read == (tmp_path / "tenants/acme/sandbox/data.bin").read_bytes()
    tenant.root.close()


def test_without_a_memory_the_same_content_gives_the_same_pieces(tmp_path: Path) -> None:
    tenant = full_tenant(tmp_path)
    write(tenant, tmp_path)
    before = {path.name for path in (tmp_path / "store").rglob("*") if path.is_file()}
    (tmp_path / "tenants/acme/sandbox/aaa-new.txt").write_text("a new file before all others")
    written, _ = write(tenant, tmp_path)
    after = {path.name for path in (tmp_path / "store").rglob("*") if path.is_file()}
    # The bundle that it is in, the index, and the one that the ledger's first look changed.
    assert len(after - before) <= 3
    assert written.sent < 200_000
    tenant.root.close()
