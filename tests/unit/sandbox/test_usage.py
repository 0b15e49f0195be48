"""What workspaces take: each thing once, however it is named, hidden or nested."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.sandbox import usage
from carrel.sandbox.launcher import kernel
from carrel.sandbox.usage import Moved, Stopped, Use, measure
from carrel.tenancy.paths import TenantRoot
from tests.fakes.sandboxed import LAUNCH_UID, reachable, workspace_tenant


@pytest.fixture
def root(tmp_path: Path) -> Iterator[TenantRoot]:
    made = TenantRoot.open(tmp_path / "acme", create=True)
    (tmp_path / "acme" / "sandbox").mkdir()
    yield made
    made.close()


@pytest.fixture
def workspace(tmp_path: Path, root: TenantRoot) -> Path:
    return tmp_path / "acme" / "sandbox"


def blocks(path: Path) -> int:
    return path.lstat().st_blocks * 512


def test_blocks_and_entries_of_every_workspace(tmp_path: Path, root: TenantRoot, workspace: Path) -> None:
    assert measure(root) == {"sandbox": Use(0, 0)}
    (workspace / "d").mkdir()
    (workspace / "d" / "f").write_bytes(bytes(100_000))
    own = tmp_path / "acme" / "sandbox.d" / "member-ann"
    own.mkdir(parents=True)
    (own / "g").write_bytes(bytes(5000))
    (tmp_path / "acme" / "sessions").mkdir()
    (tmp_path / "acme" / "sessions" / "big").write_bytes(bytes(1 << 20))
    assert measure(root) == {
        "sandbox": Use(blocks(workspace / "d") + blocks(workspace / "d" / "f"), 2),
        "sandbox.d/member-ann": Use(blocks(own / "g"), 1),
    }


def test_names_of_one_file_are_one_and_holes_are_nothing(root: TenantRoot, workspace: Path) -> None:
    (workspace / "one").write_bytes(bytes(50_000))
    for number in range(5):
        os.link(workspace / "one", workspace / f"name{number}")
    with (workspace / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    used = measure(root)["sandbox"]
    assert used == Use(blocks(workspace / "one") + blocks(workspace / "sparse"), 2)
    assert used.bytes < 1 << 20


def test_links_are_not_followed(tmp_path: Path, root: TenantRoot, workspace: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "big").write_bytes(bytes(1 << 20))
    (workspace / "d").symlink_to(outside)
    (workspace / "f").symlink_to(outside / "big")
    (workspace / "loop").symlink_to(".")
    used = measure(root)["sandbox"]
    assert used.files == 3
    assert used.bytes < 1 << 18


def test_a_closed_directory_hides_nothing() -> None:
    with reachable() as path:
        tenant = workspace_tenant(path)
        closed = path / "tenants" / "acme" / "sandbox" / "closed"
        closed.mkdir()
        (closed / "f").write_bytes(bytes(9000))
        closed.chmod(0)
        root = tenant.root.fd
        if LAUNCH_UID is not None:
            os.chown(closed, LAUNCH_UID, LAUNCH_UID)
            os.seteuid(LAUNCH_UID)
            kernel.readable_by_others(yes=True)
        try:
            used = measure(tenant.root)["sandbox"]
        finally:
            os.seteuid(os.getuid())
            kernel.readable_by_others(yes=True)
        assert root == tenant.root.fd
        assert (used.files, closed.stat().st_mode & 0o777) == (2, 0o700)
        tenant.root.close()


def test_no_depth_hides_anything_and_few_descriptors_are_held(
    root: TenantRoot, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "HELD", 8)
    most = 0
    deep = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(300):
        os.mkdir("d", dir_fd=deep)
        if number % 100 == 99:
            os.close(os.open("f", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=deep))
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)

    def going() -> bool:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))
        return True

    before = len(os.listdir("/proc/self/fd"))
    assert measure(root, going=going)["sandbox"].files == 303
    assert most - before <= 8 + 4
    assert len(os.listdir("/proc/self/fd")) == before
    shutil.rmtree(workspace / "d")


def test_one_that_is_moved_out_from_under_the_walk_leads_nowhere(
    root: TenantRoot, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "HELD", 2)
    looks = 0

    def going() -> bool:
        nonlocal looks
        looks += 1
        if looks == 9:
            # The walk is at the bottom; what it came through, and does not hold any more, is put elsewhere.
            (workspace / "a/b/c/d").rename(workspace / "moved")
        return True

    (workspace / "a/b/c/d/e/f/g/h").mkdir(parents=True)
    assert measure(root, going=going)["sandbox"].files == 8
    assert looks > 9, "it was walked again"
    (workspace / "moved").rename(workspace / "a/b/c/d")
    looks = 0
    monkeypatch.setattr(usage, "_TRIES", 1)
    with pytest.raises(Moved):
        measure(root, going=going)


def test_a_walk_ends_where_it_is_not_wanted_any_more(root: TenantRoot) -> None:
    with pytest.raises(Stopped):
        measure(root, going=lambda: False)


def test_either_is_over() -> None:
    assert Use(5, 1).over(Use(4, 9))
    assert Use(1, 5).over(Use(9, 4))
    assert not Use(4, 4).over(Use(4, 4))
    assert Use(1, 2) + Use(3, 4) == Use(4, 6)
