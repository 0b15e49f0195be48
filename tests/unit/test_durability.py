import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.durability import make_directory, replace_synced, sync_directory, sync_filesystem
from tests.fakes.faulty_disk import FaultyDisk, run_on


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    (tmp_path / "root").mkdir()
    made = FaultyDisk(tmp_path / "root", tmp_path / "store")
    made.sync()
    return made


def test_a_directory_outlives_the_machine_with_those_above_it(disk: FaultyDisk) -> None:
    run_on(disk, "from pathlib import Path; from carrel.durability import *; make_directory(Path('a/b/c').absolute())")
    disk.power_cut()
    assert (disk.root / "a/b/c").stat().st_mode & 0o777 == 0o700


def test_names_outlive_the_machine_once_they_are_synced(disk: FaultyDisk) -> None:
    write = "open('a', 'w').close(); fd = __import__('os').open('a', 0); __import__('os').fsync(fd);"
    run_on(disk, write)
    disk.power_cut()
    assert not (disk.root / "a").exists()
    run_on(disk, f"{write} from carrel.durability import *; sync_directory('.')")
    disk.power_cut()
    assert (disk.root / "a").exists()


def test_all_of_a_file_system_outlives_the_machine(disk: FaultyDisk) -> None:
    run_on(disk, "import os; os.makedirs('a/b'); open('a/b/c', 'w').write('told')")
    run_on(disk, "from carrel.durability import *; sync_filesystem('.')")
    disk.power_cut()
    assert (disk.root / "a/b/c").read_text() == "told"


def test_a_disk_that_fails_is_told(disk: FaultyDisk) -> None:
    disk.io_error("sync")
    failing = "from carrel.durability import *; {}('.')"
    for name in ("sync_directory", "sync_filesystem"):
        told = subprocess.run(
            [sys.executable, "-c", failing.format(name)], env={**os.environ, **disk.program_env}, cwd=disk.root,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Input/output error" in told.stderr


def test_what_is_there_already_is_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_directory(tmp_path)
    sync_directory(tmp_path)
    sync_filesystem(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "none")


def test_where_one_cannot_be_written_none_is_replaced(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        replace_synced({first: b"new", tmp_path / "none" / "second": b"new"})
    assert first.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["first"], "what is half written takes room"
    replace_synced({first: b"new"})
    assert first.read_bytes() == b"new"
