"""Which cgroup is ours, on the real hierarchy: by who says so, not by who may write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.sandbox.delegation import NotDelegated, _mounts, found, prepare, take
from tests.fakes.groups import delegated, give, hierarchy, subtree
from tests.fakes.sandboxed import LAUNCH_UID

_ASK = """
import os, sys
from pathlib import Path
from carrel.sandbox.delegation import NotDelegated, take
Path(sys.argv[1], "cgroup.procs").write_text("0")
os.setresuid(*(3 * [int(sys.argv[2])]))
try:
    got = take()
    print("took", got.path, Path("/proc/self/cgroup").read_text().rpartition("/")[2].strip())
except NotDelegated as error:
    print("no:", error)
"""


def asked(directory: Path) -> str:
    """What a process in the group ``directory``, of the sandbox's uid, finds."""
    source = Path(__file__).parents[3] / "python"
    done = subprocess.run(
        [sys.executable, "-c", _ASK, str(directory), str(LAUNCH_UID)], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    return done.stdout.strip() or done.stderr


def test_a_delegated_group_is_taken_and_who_is_in_it_moves_beneath() -> None:
    with subtree() as path:
        assert asked(path) == f"took {path} gateway"
        assert (path / "cgroup.procs").read_text() == ""
        assert asked(path / "gateway") == f"took {path} gateway", "started there (DelegateSubgroup=gateway) as well"


def test_one_that_is_only_writable_is_left_alone() -> None:
    with subtree() as path:
        os.removexattr(path, "user.delegate")
        assert asked(path).startswith("no: this process's cgroup is not delegated to it: start the gateway as")
        assert not (path / "gateway").exists()


def test_one_that_is_delegated_to_another_uid_is_left_alone() -> None:
    with subtree() as path:
        os.chown(path / "cgroup.subtree_control", 0, 0)
        assert asked(path).startswith("no: this process's cgroup is not writable for its uid")


def test_the_machines_own_root_is_nobodys() -> None:
    with hierarchy() as top:
        assert not (top / "cgroup.type").exists()
        assert asked(top).startswith("no: this process's cgroup is not delegated")
        assert not (top / "gateway").exists()


def test_one_gateway_at_a_time_has_it() -> None:
    with delegated() as first, subtree() as other:
        with pytest.raises(NotDelegated, match="another gateway uses"):
            prepare(Path(first.path))
        give(other)
        os.close(prepare(other).lock)


def test_controllers_are_those_that_sandboxes_can_be_limited_by() -> None:
    with hierarchy() as top, delegated() as made:
        there = set((top / "cgroup.controllers").read_text().split())
        assert set(made.controllers) == there & {"cpu", "io", "memory", "pids"}


def test_a_machine_without_the_hierarchy_says_so(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("4:memory:/x\n")
    (tmp_path / "mountinfo").write_text("1 2 0:3 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n")
    with pytest.raises(NotDelegated, match="no cgroup v2 hierarchy"):
        take(tmp_path)
    (tmp_path / "cgroup").write_text("0::/elsewhere\n")
    (tmp_path / "mountinfo").write_text("1 2 0:3 /here /mnt rw - cgroup2 none rw\n")
    with pytest.raises(NotDelegated, match="outside of what is mounted"):
        found(tmp_path)


def test_mounts_are_told_apart_by_kind_and_read_with_their_escapes() -> None:
    table = (
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        "31 23 0:27 / /proc rw - proc proc rw\n"
        "32 23 0:26 /a\\040b /mnt/c\\134d rw - cgroup2 none rw\n"
    )
    assert list(_mounts(table)) == [("/", "/sys/fs/cgroup"), ("/a b", "/mnt/c\\d")]
