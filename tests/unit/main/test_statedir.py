import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.main.statedir import StateDir, StateInUse


def test_it_is_private_and_laid_out(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state") as state:
        assert state.path.stat().st_mode & 0o777 == 0o700
        assert sorted(p.name for p in state.path.iterdir()) == ["audit", "envs", "run", "tenants"]
        assert state.socket == state.path / "run" / "control.sock"


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state"), pytest.raises(StateInUse, match=f"pid {os.getpid()}"):
        StateDir(tmp_path / "state").__enter__()


def test_a_lock_of_the_dead_is_nobodys(tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from carrel.main.statedir import StateDir; "
        f"StateDir(Path({str(tmp_path / 'state')!r})).__enter__(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], check=False)
    with StateDir(tmp_path / "state"):
        assert (tmp_path / "state" / "run" / "lock").read_text().strip() == str(os.getpid())


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CarrelError, match="--state-dir"):
        StateDir(tmp_path / "file" / "state").__enter__()
