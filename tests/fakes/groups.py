"""A real cgroup v2 subtree for one test, handed to the sandbox's uid as systemd hands one to a service.

Only root can make one. Where the machine mounts no cgroup v2 hierarchy, one is mounted for the test; on a machine whose
controllers belong to version 1 it has none of them, and still kills, counts and tells who is in it.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from carrel.sandbox.delegation import Delegation, _mounts, prepare
from tests.fakes.sandboxed import LAUNCH_UID, reachable


@contextmanager
def hierarchy() -> Iterator[Path]:
    """Where a cgroup v2 hierarchy is mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a cgroup of its own")
    for root, point in _mounts(Path("/proc/self/mountinfo").read_text()):
        if root == "/" and os.access(Path(point, "cgroup.procs"), os.W_OK):
            yield Path(point)
            return
    with reachable() as path:
        subprocess.run(["mount", "-t", "cgroup2", "none", str(path)], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


@contextmanager
def subtree(uid: int | None = LAUNCH_UID) -> Iterator[Path]:
    """A group that belongs to ``uid`` and is marked as delegated, gone afterwards."""
    with hierarchy() as top:
        for name in (top / "cgroup.controllers").read_text().split():
            if name in {"cpu", "io", "memory", "pids"}:
                (top / "cgroup.subtree_control").write_text(f"+{name}")
        path = top / f"carrel-test-{os.getpid()}-{time.monotonic_ns()}"
        path.mkdir()
        try:
            os.setxattr(path, "user.delegate", b"1")
            give(path, uid)
            yield path
        finally:
            remove(path)


@contextmanager
def delegated() -> Iterator[Delegation]:
    """A subtree that is ready for sandboxes."""
    with subtree() as path:
        made = prepare(path)
        try:
            for directory in path.iterdir():
                if directory.is_dir():
                    give(directory)
            yield made
        finally:
            os.close(made.lock)


def give(path: Path, uid: int | None = LAUNCH_UID) -> None:
    """Let ``uid`` make groups in ``path`` and move processes there."""
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(path / name, uid or -1, -1)


def remove(path: Path) -> None:
    """Kill what is in the group and remove it."""
    (path / "cgroup.kill").write_text("1")
    until = time.monotonic() + 30
    for directory in sorted((one for one in path.rglob("*") if one.is_dir()), reverse=True):
        _remove_one(directory, until)
    _remove_one(path, until)


def _remove_one(path: Path, until: float) -> None:
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return
