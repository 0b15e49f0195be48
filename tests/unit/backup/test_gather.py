"""What is walked over, in which order, and how a file is read that changes meanwhile."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from carrel.backup import gather
from carrel.backup.gather import Gathering, read
from carrel.errors import CarrelError, StorageFailed, StorageFull, TooLarge
from carrel.tenancy.handle import Tenant
from tests.fakes.backups import full_tenant


@pytest.fixture
def tenant(tmp_path: Path) -> Iterator[Tenant]:
    made = full_tenant(tmp_path, large=0)
    yield made
    made.root.close()


def walk(tenant: Tenant, left: dict[str, str] | None = None) -> Gathering:
    told = left if left is not None else {}
    return Gathering(tenant.root.fd, owner=tenant.root.owner, left_out=told.__setitem__, going=lambda: None)


def never(why: str) -> None:
    raise AssertionError(why)


def test_in_order_and_without_what_does_not_belong(tenant: Tenant) -> None:
    left: dict[str, str] = {}
    paths = [found.path for found in walk(tenant, left)]
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    assert {"usage/ledger.sqlite", "sandbox/link", "sandbox/deep/er/file.txt", "sandbox/empty"} <= set(paths)
    assert not [path for path in paths if path.startswith("snapshots") or path.endswith(("-wal", "-shm"))]
    assert set(left) == {"sandbox/out", "sandbox/up", "sandbox/pipe"}
    assert walk(tenant).total() > 0


def test_only_what_is_half_written_is_passed_over(tenant: Tenant, tmp_path: Path) -> None:
    sandbox = tmp_path / "tenants/acme/sandbox"
    (sandbox / ".carrel-0123456789abcdef.tmp").write_text("hal")
    (sandbox / ".carrel-notes").write_text("somebody's own")
    paths = {found.path for found in walk(tenant)}
    assert "sandbox/.carrel-notes" in paths
    assert "sandbox/.carrel-0123456789abcdef.tmp" not in paths


def test_a_file_with_a_second_name_outside_of_a_workspace_is_left_out(tenant: Tenant, tmp_path: Path) -> None:
    os.link(tmp_path / "tenants/acme/config.yaml", tmp_path / "tenants/acme/channels.yaml")
    os.link(tmp_path / "tenants/acme/sandbox/main.py", tmp_path / "tenants/acme/sandbox/again.py")
    left: dict[str, str] = {}
    paths = {found.path for found in walk(tenant, left)}
    assert {"config.yaml", "channels.yaml"} <= set(left)
    assert {"sandbox/main.py", "sandbox/again.py"} <= paths


def test_names_that_cannot_be_kept_are_told(tenant: Tenant, tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/tenants/acme/sandbox/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    (tmp_path / "tenants/acme/sandbox/a\x1bb").write_text("")
    left: dict[str, str] = {}
    assert len(list(walk(tenant, left))) > 200
    assert len(left) == 5
    assert all(name.isprintable() or "\x1b" in name for name in left)


def test_over_so_many_names_it_ends(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MOST_ENTRIES", 50)
    with pytest.raises(TooLarge):
        list(walk(tenant))


def test_one_that_changes_is_read_anew(tenant: Tenant, tmp_path: Path) -> None:
    path, restarts = tmp_path / "tenants/acme/sandbox/main.py", []
    path.write_bytes(b"x" * (gather.BLOCK + 10))
    found = next(one for one in walk(tenant) if one.path == "sandbox/main.py")
    directory = os.open(path.parent, os.O_RDONLY)
    held = gather.Found(found.path, "file", 0o600, 0, found.size, found.seen, "", directory, "main.py")
    blocks: list[bytes] = []

    def restart() -> None:
        restarts.append(True)
        blocks.clear()

    for block in read(held, temporary=tmp_path, restart=restart, damage=never):
        assert isinstance(block, bytes)
        blocks.append(block)
        if not restarts:
            path.write_bytes(b"y" * (gather.BLOCK + 20))
    assert (len(restarts), b"".join(blocks)) == (1, b"y" * (gather.BLOCK + 20))
    os.close(directory)


def test_one_that_never_rests_is_taken_as_it_was_read_last(tenant: Tenant, tmp_path: Path) -> None:
    path = tmp_path / "tenants/acme/sandbox/main.py"
    path.write_bytes(b"x" * (gather.BLOCK + 10))
    directory = os.open(path.parent, os.O_RDONLY)
    held = gather.Found("sandbox/main.py", "file", 0o600, 0, 0, (), "", directory, "main.py")
    restarts: list[bool] = []
    for number, _ in enumerate(read(held, temporary=tmp_path, restart=lambda: restarts.append(True), damage=never)):
        path.write_bytes(b"x" * (gather.BLOCK + 20 + number))
    assert len(restarts) == 2
    os.close(directory)


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b"a\nb\n", b"a\nb\n"), (b"a\nb", b"a\n"), (b"abc", b""), (b"", b""), (b"a\n" + b"x" * 200_000, b"a\n")],
)
def test_lines_end_at_their_border(tenant: Tenant, tmp_path: Path, content: bytes, kept: bytes) -> None:
    path = tmp_path / "tenants/acme/sessions/s_1.jsonl"
    path.write_bytes(content)
    directory = os.open(path.parent, os.O_RDONLY)
    held = gather.Found("sessions/s_1.jsonl", "file", 0o600, 0, 0, (), "", directory, "s_1.jsonl")
    assert list(read(held, temporary=tmp_path, restart=lambda: None, damage=never)) == ([kept] if kept else [])
    os.close(directory)


@pytest.mark.parametrize(("error", "kind"), [(apsw.FullError, StorageFull), (apsw.IOError, StorageFailed)])
def test_a_copy_that_the_disk_does_not_take_is_no_damage(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], kind: type[CarrelError]
) -> None:
    def refuses(*_: object) -> None:
        raise error("the disk of the copies is full, or broken")

    monkeypatch.setattr(gather, "_copied", refuses)
    for found in walk(tenant):
        if found.path == "usage/ledger.sqlite":
            with pytest.raises(kind):
                list(read(found, temporary=tmp_path, restart=lambda: None, damage=never))


def test_a_database_that_its_disk_does_not_give_is_told_as_such(
    tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise apsw.IOError("broken")

    def unreadable(fd: int, count: int, at: int) -> bytes:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(gather, "_copied", breaks)
    monkeypatch.setattr(os, "pread", unreadable)
    for found in walk(tenant):
        if found.path == "usage/ledger.sqlite":
            with pytest.raises(OSError, match="broken"):
                list(read(found, temporary=tmp_path, restart=lambda: None, damage=never))
