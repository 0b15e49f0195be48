import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.main.statedir import NotState, StateDir, StateInUse, mend_of, refused_by_disk


def test_it_is_private_and_laid_out(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        assert sorted(p.name for p in state.path.iterdir()) == ["audit", "envs", "run", "tenants"]
        assert state.socket == state.path / "run" / "control.sock"


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state"), pytest.raises(StateInUse, match=f"pid {os.getpid()}"):
        StateDir(tmp_path / "state").__enter__()


def test_it_is_held_also_where_its_lock_was_removed(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state") as state:
        (state.path / "run" / "lock").unlink()
        with pytest.raises(StateInUse, match="another gateway"):
            StateDir(tmp_path / "state").__enter__()
    with StateDir(tmp_path / "state") as again:
        assert not again.was_killed


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("carrel.main.statedir.fcntl.flock", flock)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CarrelError, match=r"state cannot be used: No locks available\. Choose another"):
        StateDir(tmp_path / "state").__enter__()
    assert len(os.listdir("/proc/self/fd")) == before, "none is left open"


def test_a_lock_of_the_dead_is_nobodys(tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from carrel.main.statedir import StateDir; "
        f"StateDir(Path({str(tmp_path / 'state')!r})).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    with StateDir(tmp_path / "state"):
        assert (tmp_path / "state" / "run" / "lock").read_text().strip() == str(os.getpid())


def test_who_was_killed_and_who_came_to_an_end_are_told_apart(tmp_path: Path) -> None:
    first = StateDir(tmp_path / "state").__enter__()
    lock = tmp_path / "state" / "run" / "lock"
    held = lock.stat().st_size
    assert not first.was_killed
    first.__exit__(None, None, None)
    assert lock.stat().st_size == held, "a disk that is full has no place for more"
    with StateDir(tmp_path / "state") as second:
        assert not second.was_killed
        left = lock.read_text()
    lock.write_text(left)
    with StateDir(tmp_path / "state") as third:
        assert third.was_killed


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "The disk is full: nothing is started. Make room where the state directory is (/state)"),
        (errno.EROFS, "The disk fails (Read-only file system): nothing is started. Look after the disk of the state"),
    ],
)
def test_what_the_disk_refuses_is_told_with_the_place_and_the_mend(code: int, told: str) -> None:
    error = refused_by_disk(OSError(code, os.strerror(code)))
    assert error is not None
    assert f"{error.message}{mend_of(error, Path('/state'))}".startswith(told)
    assert refused_by_disk(OSError(errno.ENOTDIR, "")) is None
    assert mend_of(CarrelError("Something else."), Path("/state")) == ""


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CarrelError, match="--state-dir"):
        StateDir(tmp_path / "file" / "state").__enter__()


def test_a_directory_of_other_things_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters").mkdir()
    with pytest.raises(NotState, match=r"is not empty and is no state directory .* --state-dir"):
        StateDir(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("there", [".config", "lost+found", "master.key", "audit"])
def test_a_directory_with_what_may_be_there_before_is_taken(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir()
    if there == "audit":
        (tmp_path / "a note of the operator's").touch()
    with StateDir(tmp_path) as state:
        assert (state.path / "tenants").is_dir()
