import os
import resource
import subprocess
import threading
from pathlib import Path

import apsw
import pytest

from carrel.errors import CarrelError, StorageFailed, StorageFull, Unavailable
from carrel.store.sqlite import AlreadyThere, Damaged, DatabasePool, Worker, open_database, transaction, translated


def make_table(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS t(x TEXT)")


def test_a_database_is_opened_one_way(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.sqlite", schema=make_table)
    assert connection.pragma("journal_mode") == "wal"
    assert connection.pragma("synchronous") == 2
    assert connection.pragma("foreign_keys") == 1
    connection.execute("INSERT INTO t VALUES ('kept')")
    connection.close()
    again = open_database(tmp_path / "a.sqlite", schema=make_table)
    assert again.execute("SELECT x FROM t").fetchall() == [("kept",)]
    again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
def test_a_file_system_that_is_only_read_is_told_as_a_disk_that_fails(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        open_database(tmp_path / "a.sqlite", schema=make_table).close()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        for name in ("a.sqlite", "new.sqlite"):
            with pytest.raises(StorageFailed, match="Read-only file system"):
                open_database(tmp_path / name, schema=make_table)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_which_database_cannot_be_opened_and_why_is_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.sqlite").mkdir()
    with pytest.raises(CarrelError, match="cannot be opened; the operator's log says why"):
        open_database(tmp_path / "a.sqlite")
    told = capsys.readouterr().out
    assert f"{tmp_path}/a.sqlite" in told
    assert "Is a directory" in told


def test_a_schema_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(connection: apsw.Connection) -> None:
        connection.execute("CREATE TABLE half(x)")
        raise CarrelError("no")

    with pytest.raises(CarrelError, match="no"):
        open_database(tmp_path / "a.sqlite", schema=broken)
    connection = open_database(tmp_path / "a.sqlite")
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]
    connection.close()


def test_a_full_database_is_storage_full(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.sqlite", schema=make_table)
    connection.pragma("max_page_count", 4)

    def fill() -> None:
        with transaction(connection):
            for _ in range(100):
                connection.execute("INSERT INTO t VALUES (?)", ("x" * 4000,))

    with pytest.raises(StorageFull):
        fill()
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    connection.close()


@pytest.mark.parametrize("kind", [apsw.IOError, apsw.ReadOnlyError])
def test_a_disk_that_fails_is_storage_failed(kind: type[apsw.Error]) -> None:
    with pytest.raises(StorageFailed, match="nothing was written") as told, translated():
        raise kind("disk I/O error")
    assert not isinstance(told.value, StorageFull)


def test_without_descriptors_a_database_cannot_be_opened_for_now(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        with pytest.raises(Unavailable, match="Too many files"):
            open_database(tmp_path / "a.sqlite")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    open_database(tmp_path / "a.sqlite").close()


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    connection = open_database(tmp_path / "a.sqlite")
    connection.execute("CREATE TABLE t(x TEXT UNIQUE)")

    def twice(value: str) -> None:
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (?)", (value + "first",))
            connection.execute("INSERT INTO t VALUES (?)", (value,))

    twice("a")
    with pytest.raises(AlreadyThere):
        twice("a")
    connection.execute("DELETE FROM t WHERE x='afirst'")
    with pytest.raises(AlreadyThere):
        twice("a")
    assert connection.execute("SELECT x FROM t").fetchall() == [("a",)]
    connection.close()


def test_a_busy_database_is_said_so(tmp_path: Path) -> None:
    first = open_database(tmp_path / "a.sqlite", schema=make_table)
    second = open_database(tmp_path / "a.sqlite")
    second.set_busy_timeout(1)
    first.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable), translated():
        second.execute("INSERT INTO t VALUES ('x')")
    first.close()
    second.close()


def test_what_is_no_database_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_bytes(b"not a database at all, not even nearly" * 200)
    with pytest.raises(Damaged, match="is damaged"):
        open_database(tmp_path / "a.sqlite")
    with pytest.raises(CarrelError):
        open_database(tmp_path / "missing" / "a.sqlite")


def test_the_pool_closes_the_longest_unused(tmp_path: Path) -> None:
    opened: list[str] = []

    def open_one(key: str) -> apsw.Connection:
        opened.append(key)
        return open_database(tmp_path / f"{key}.sqlite")

    pool = DatabasePool(open_one, limit=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        pool.get(key)
        assert len(pool) <= 2
    assert opened == ["a", "b", "c", "b"]
    pool.discard("b")
    pool.discard("never")
    assert len(pool) == 1
    pool.close()
    assert len(pool) == 0


async def test_work_is_done_in_order_on_one_thread() -> None:
    worker = Worker("test")
    names = [await worker.run(lambda: threading.current_thread().name) for _ in range(3)]
    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().name
    worker.close()


async def test_a_thread_that_computes_long_gives_way_to_the_others() -> None:
    worker = Worker("test", niceness=3)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    its = await worker.run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert its == max(own, 3)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own
    worker.close()


async def test_where_that_is_forbidden_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    worker = Worker("test", niceness=3)
    assert await worker.run(lambda: 1) == 1
    worker.close()
