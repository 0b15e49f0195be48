"""A tenant goes out as one file and comes in as it was."""

import io
import os
import shutil
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.backup.archive import Header, Writer
from carrel.backup.moving import NOTE, came_from, export, has_made_anything, mark, unpacked
from carrel.backup.progress import Progress
from carrel.backup.swap import staged
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.memory import book as memory_book
from carrel.objects.pace import Cancelled
from carrel.schedule import book as schedule_book
from carrel.store.sqlite import open_database
from tests.fakes.backups import full_tenant, rows_of, tree
from tests.fakes.tenants import make_tenant

AT = datetime(2026, 3, 1, tzinfo=UTC)
ACME = TenantId("acme")
JOB = "INSERT INTO jobs VALUES ('{}', '{{}}', NULL)"
NOTE_ROW = "INSERT INTO notes (id, source, text, created) VALUES ('n', 'said', 'x', 0)"


def nothing() -> None:
    pass


def test_what_goes_out_comes_in(tmp_path: Path) -> None:
    tenant, out = full_tenant(tmp_path), io.BytesIO()
    (tmp_path / "scratch").mkdir()
    done = export(ACME, tenant.root, out, at=AT, temporary=tmp_path / "scratch", going=nothing)
    assert done.left_out == 3, "a pipe and two links that lead out"
    out.seek(0)
    (tmp_path / "other").mkdir()
    taken = unpacked(out, tmp_path / "other", TenantId("zeta"), going=nothing)
    assert (taken.files, taken.left_out, taken.sessions) == (done.files, 3, 2)
    place = staged(tmp_path / "other", TenantId("zeta"))
    assert came_from(place) == mark(taken)
    came, went = tree(place), tree(tmp_path / "tenants/acme")
    for path in ("sandbox/main.py", "sandbox/data.bin", "sandbox/deep/er/file.txt", "sandbox/link", "sandbox/inside"):
        assert came[path] == went[path]
    assert (place / "sessions/s_1.jsonl").read_bytes() == b'{"a":1}\n{"b":2}\n'
    assert rows_of(place / "usage/ledger.sqlite") == rows_of(tmp_path / "tenants/acme/usage/ledger.sqlite")
    assert not {name for name in came if name.startswith("snapshots") or name in ("backups.json", "sandbox/out")}
    tenant.root.close()


def test_what_is_left_out_takes_no_memory(tmp_path: Path) -> None:
    """There may be a million pipes in a workspace, whose paths are long."""
    tenant = make_tenant(tmp_path, "acme")
    deep = tmp_path / "tenants/acme/sandbox" / "/".join(["d" * 250] * 8)
    deep.mkdir(parents=True)
    for number in range(8000):
        os.mkfifo(deep / f"p{number}")
    tracemalloc.start()
    try:
        with (tmp_path / "out").open("wb") as out:
            done = export(ACME, tenant.root, out, at=AT, temporary=tmp_path, going=nothing)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Their paths alone are 16 MB; up to 4 MiB of the manifest are held before it is on the disk.
    assert done.left_out == 8000
    assert peak < 8 << 20
    tenant.root.close()


def test_an_archive_with_something_in_the_place_of_its_note_is_told(tmp_path: Path) -> None:
    out = io.BytesIO()
    writer = Writer(out, Header(tenant="acme", at=AT, carrel="1"))
    writer.directory(NOTE)
    writer.close()
    out.seek(0)
    with pytest.raises(CarrelError, match="directory"):
        unpacked(out, tmp_path, ACME, going=nothing)


def test_how_far_it_is_and_that_it_can_be_stopped(tmp_path: Path) -> None:
    tenant, progress = full_tenant(tmp_path), Progress()
    (tmp_path / "scratch").mkdir()
    done = export(
        ACME, tenant.root, io.BytesIO(), at=AT, temporary=tmp_path / "scratch", going=nothing, progress=progress
    )
    assert (progress.phase, progress.files, progress.done) == ("copying", done.files, done.bytes)
    assert progress.total >= progress.done > 3 << 20

    def stopped() -> None:
        if progress.done > 1 << 20:
            raise Cancelled("stopped")

    progress = Progress()
    with io.BytesIO() as out, pytest.raises(Cancelled):
        export(ACME, tenant.root, out, at=AT, temporary=tmp_path / "scratch", going=stopped, progress=progress)
    assert list((tmp_path / "scratch").iterdir()) == []
    tenant.root.close()


def test_what_a_tenant_made_counts_and_what_the_house_made_does_not(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    top = tmp_path / "tenants/acme"
    for name in ("sessions", "sandbox", "usage", "credentials", "cron"):
        (top / name).mkdir(exist_ok=True)
    (top / "credentials/tokens.json").write_text("{}")
    (top / "memory").mkdir(exist_ok=True)
    assert not has_made_anything(top)
    for name, upgrade, own, house in (
        ("cron/cron.sqlite", schedule_book.upgrade, JOB.format("job_1"), JOB.format("declared-digest")),
        ("memory/memory.sqlite", memory_book.upgrade, NOTE_ROW, None),
    ):
        connection = open_database(top / name, schema=upgrade)
        assert not has_made_anything(top), name
        if house is not None:
            connection.execute(house)
            assert not has_made_anything(top), name
        connection.execute(own)
        assert has_made_anything(top), name
        connection.close()
        (top / name).unlink()
    (top / "cron/cron.sqlite").write_text("no database at all")
    assert has_made_anything(top)
    (top / "cron/cron.sqlite").unlink()
    for path in (
        "sessions/s.jsonl", "sandbox/a", "config.yaml", "plugins/skills.json", "sessions.d/member-a/s.jsonl",
        "credentials/vault/KEY.sealed", "channels/openclaw.json",
    ):  # fmt: skip
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("x")
        assert has_made_anything(top), path
        (top / path).unlink()
    shutil.rmtree(top / "sandbox")
    assert not has_made_anything(top)
    tenant.root.close()


def test_a_note_that_is_none_is_of_no_archive(tmp_path: Path) -> None:
    assert came_from(tmp_path) is None
    for text in ("", "[]", "{}"):
        (tmp_path / NOTE).write_text(text)
        assert came_from(tmp_path) is None


def test_a_file_of_holes_fills_no_archive(tmp_path: Path) -> None:
    tenant, out = full_tenant(tmp_path, large=0), io.BytesIO()
    for name, size in (("hollow", 1 << 40), ("some", 4 << 20)):
        (tmp_path / f"tenants/acme/sandbox/{name}").touch()
        os.truncate(tmp_path / f"tenants/acme/sandbox/{name}", size)
    (tmp_path / "scratch").mkdir()
    done = export(ACME, tenant.root, out, at=AT, temporary=tmp_path / "scratch", going=nothing)
    assert done.left_out == 4
    out.seek(0)
    (tmp_path / "other").mkdir()
    unpacked(out, tmp_path / "other", ACME, going=nothing)
    place = staged(tmp_path / "other", ACME) / "sandbox"
    assert (place / "some").read_bytes() == bytes(4 << 20)
    assert not (place / "hollow").exists()
    tenant.root.close()
