"""The disk of the fault tests itself: it takes what a program forgot to sync, and leaves what it did not forget."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.faulty_disk import FaultyDisk, run_on

WRITE = """
import os
def write(name, text, *, sync=True, names=True):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, text.encode())
    if sync:
        os.fsync(fd)
    os.close(fd)
    if names:
        sync_names(os.path.dirname(name) or ".")
def sync_names(where):
    fd = os.open(where, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
"""
SQLITE = """
import sqlite3
db = sqlite3.connect("db.sqlite", isolation_level=None)
db.execute("PRAGMA journal_mode = wal")
db.execute("PRAGMA synchronous = {synchronous}")
db.execute("CREATE TABLE IF NOT EXISTS t (n)")
db.execute("INSERT INTO t VALUES (7)")
import os
os._exit(0)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FaultyDisk]:
    (tmp_path / "root").mkdir()
    made = FaultyDisk(tmp_path / "root", tmp_path / "store")
    made.sync()
    yield made
    made.close()


def after(disk: FaultyDisk, program: str) -> dict[str, str]:
    """The files after ``program`` and a power cut."""
    run_on(disk, WRITE + program)
    disk.power_cut()
    return {p.relative_to(disk.root).as_posix(): p.read_text() for p in disk.root.rglob("*") if p.is_file()}


def test_what_is_synced_with_its_name_stays(disk: FaultyDisk) -> None:
    assert after(disk, "write('a', 'told')") == {"a": "told"}
    assert after(disk, "os.mkdir('d'); sync_names('.'); write('d/b', 'told')") == {"a": "told", "d/b": "told"}


def test_a_file_that_was_not_synced_is_empty(disk: FaultyDisk) -> None:
    assert after(disk, "write('a', 'told', sync=False)") == {"a": ""}


def test_a_name_that_was_not_synced_is_not_there(disk: FaultyDisk) -> None:
    assert after(disk, "write('a', 'told', names=False)") == {}
    assert after(disk, "os.mkdir('d'); write('d/b', 'told')") == {}


def test_what_came_after_the_sync_is_gone(disk: FaultyDisk) -> None:
    assert after(disk, "write('a', 'told'); open('a', 'a').write(' more')") == {"a": "told"}


def test_a_rename_and_a_removal_count_once_the_directory_is_synced(disk: FaultyDisk) -> None:
    run_on(disk, f"{WRITE}write('a', 'old'); write('gone', 'there')")
    disk.power_cut()
    change = "write('new', 'new', names=False); os.rename('new', 'a'); os.unlink('gone')"
    assert after(disk, change) == {"a": "old", "gone": "there"}
    assert after(disk, f"{change}; sync_names('.')") == {"a": "new"}


def test_a_mapped_file_is_as_it_was_when_it_was_synced(disk: FaultyDisk) -> None:
    program = """
write('a', '.' * 8)
import mmap
fd = os.open('a', os.O_RDWR)
page = mmap.mmap(fd, 8)
page[:2] = b'in'
os.fdatasync(fd)
page[2:] = b'lost!!'
"""
    assert after(disk, program) == {"a": "in......"}


def test_sqlite_keeps_what_it_committed_where_it_syncs(disk: FaultyDisk) -> None:
    read = [
        sys.executable,
        "-c",
        "import sqlite3; print(sqlite3.connect('db.sqlite').execute('SELECT n FROM t').fetchall())",
    ]
    for synchronous, found in (("full", "[(7,)]\n"), ("off", "")):
        for path in disk.root.iterdir():
            path.unlink()
        disk.sync()
        run_on(disk, SQLITE.format(synchronous=synchronous))
        disk.power_cut()
        shown = subprocess.run(read, cwd=disk.root, capture_output=True, text=True, check=False)
        assert shown.stdout == found, shown.stderr


def test_calls_fail_where_they_are_told_to(disk: FaultyDisk) -> None:
    disk.io_error("sync", path="bad")
    run_on(disk, f"{WRITE}write('good', 'x', names=False)")
    with pytest.raises(subprocess.CalledProcessError):
        run_on(disk, f"{WRITE}write('bad', 'x')")
    assert disk.failed == 1
    disk.heal()
    run_on(disk, f"{WRITE}write('bad', 'x')")


def test_the_wall_clock_jumps_and_the_other_does_not(disk: FaultyDisk) -> None:
    program = "import time as t, datetime as d; print(int(t.time()), d.datetime.now(d.UTC).year, int(t.monotonic()))"

    def clocks() -> list[int]:
        shown = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **disk.program_env}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        return [int(word) for word in shown.stdout.split()]

    before = clocks()
    disk.jump(10 * 365 * 86_400)
    moved = clocks()
    assert moved[0] - before[0] >= 10 * 365 * 86_400
    assert moved[1] - before[1] in (9, 10)
    assert moved[2] - before[2] < 86_400


def test_a_process_is_killed_at_a_named_call(disk: FaultyDisk) -> None:
    program = (
        f"{WRITE}import sys; sys.stdin.readline(); write('a', 'x'); write('b', 'x'); write('a', 'y'); write('c', 'x')"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **disk.program_env}, stdin=subprocess.PIPE, cwd=disk.root,
        start_new_session=True,
    )  # fmt: skip
    disk.kill_at(-started.pid, "sync", path="/a", after=True, time=2)
    started.communicate(b"go\n")
    assert started.returncode == -signal.SIGKILL
    assert disk.killed
    disk.power_cut()
    assert {p.name: p.read_text() for p in disk.root.iterdir()} == {"a": "y", "b": "x"}
