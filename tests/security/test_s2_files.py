"""Numbers 2.1 to 2.5: a tenant's files are opened beneath its root, judged after opening, and nothing escapes."""

import contextlib
import ctypes
import errno
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import CarrelError, InvalidRequest, NotFound, UnsafePath
from carrel.ids import TenantId
from carrel.reconcile.reconciler import Reconciler
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory
from carrel.tenancy.paths import LazyTenantRoot, TenantRoot, open_beneath
from tests.fakes.declarations import declare

EXCHANGES = 100_000
RENAME_EXCHANGE = 2
SECRET = b"somebody else's"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    made = tmp_path / "outside"
    made.mkdir()
    (made / "secret").write_bytes(SECRET)
    return made


@pytest.fixture
def root(tmp_path: Path, outside: Path) -> Iterator[TenantRoot]:
    made = TenantRoot.open(tmp_path / "acme", create=True)
    made.replace("inside/file", b"mine")
    yield made
    made.close()


@pytest.mark.parametrize(
    "path",
    ["../outside/secret", "inside/../../outside/secret", "/etc/passwd", "..", "./../outside", "inside/../..",
     "/proc/self/root/etc/passwd"],
)  # fmt: skip
def test_S2_01_no_path_leaves_the_root(root: TenantRoot, path: str) -> None:
    for work in (
        lambda: root.read(path, limit=100),
        lambda: root.open_file(path, os.O_WRONLY | os.O_CREAT),
        lambda: root.directory(path, create=True),
        lambda: list(root.entries(path)),
        lambda: root.replace(f"{path}/x", b"x"),
        lambda: root.remove(f"{path}/secret"),
    ):
        with pytest.raises(CarrelError):
            work()


def test_S2_01_twin_paths_beneath_the_root_work(root: TenantRoot) -> None:
    assert root.read("inside/file", limit=10) == b"mine"
    assert root.read("./inside/../inside/file", limit=10) == b"mine"
    root.replace("new/deep/file", b"x")
    assert [name for name, _ in root.entries("new/deep")] == ["file"]


def test_S2_01_no_link_is_followed_in_any_part(root: TenantRoot, tmp_path: Path, outside: Path) -> None:
    home = tmp_path / "acme"
    (home / "absolute").symlink_to(outside)
    (home / "relative").symlink_to("../outside")
    (home / "to-file").symlink_to(outside / "secret")
    (home / "own").symlink_to("inside")
    (home / "magic").symlink_to("/proc/self/cwd")
    (home / "loop").symlink_to("loop")
    for name in ("absolute/secret", "relative/secret", "to-file", "own/file", "magic/x", "loop"):
        with pytest.raises(UnsafePath):
            root.read(name, limit=100)
        with pytest.raises(UnsafePath):
            root.open_file(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert (outside / "secret").read_bytes() == SECRET


def test_S2_01_writing_replaces_a_link_and_not_what_it_points_to(
    root: TenantRoot, tmp_path: Path, outside: Path
) -> None:
    (tmp_path / "acme" / "link").symlink_to(outside / "secret")
    root.replace("link", b"mine")
    assert (outside / "secret").read_bytes() == SECRET
    assert root.read("link", limit=10) == b"mine"
    (tmp_path / "acme" / "again").symlink_to(outside / "secret")
    root.remove("again")
    assert (outside / "secret").exists()


def test_S2_01_a_root_that_is_itself_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError, match=r"directory|link"):
        TenantRoot.open(tmp_path / "link")
    with pytest.raises(CarrelError):
        _ = LazyTenantRoot(tmp_path / "link").fd


def test_S2_02_a_hard_link_is_refused_and_keeps_its_content(root: TenantRoot, tmp_path: Path, outside: Path) -> None:
    os.link(outside / "secret", tmp_path / "acme" / "hard")
    with pytest.raises(UnsafePath, match="hard link"):
        root.read("hard", limit=100)
    with pytest.raises(UnsafePath):
        root.open_file("hard", os.O_WRONLY | os.O_TRUNC)
    assert (outside / "secret").read_bytes() == SECRET


def test_S2_02_a_fifo_neither_blocks_nor_is_read(root: TenantRoot, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "acme" / "fifo")
    with pytest.raises(InvalidRequest):
        root.read("fifo", limit=100)
    with pytest.raises(InvalidRequest):
        root.open_file("fifo", os.O_WRONLY)
    reader = os.open(tmp_path / "acme" / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(UnsafePath):
            root.open_file("fifo", os.O_WRONLY)
    finally:
        os.close(reader)


def test_S2_02_a_directory_or_device_is_no_file(root: TenantRoot, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        root.read("inside", limit=100)
    if os.geteuid() == 0:
        try:
            os.mknod(tmp_path / "acme" / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
        except PermissionError:
            return
        with pytest.raises((UnsafePath, InvalidRequest)):
            root.read("zero", limit=100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_S2_02_a_file_of_another_owner_is_refused(root: TenantRoot, tmp_path: Path) -> None:
    os.chown(tmp_path / "acme" / "inside" / "file", 12345, 12345)
    with pytest.raises(UnsafePath, match="somebody else"):
        root.read("inside/file", limit=100)


def test_S2_02_twin_a_plain_file_with_one_link_is_read(root: TenantRoot, tmp_path: Path) -> None:
    os.link(tmp_path / "acme" / "inside" / "file", tmp_path / "acme" / "second")
    (tmp_path / "acme" / "second").unlink()
    assert root.read("inside/file", limit=10) == b"mine"


def exchange(directory: int, one: str, other: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(directory, one.encode(), directory, other.encode(), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


def test_S2_03_a_race_of_exchanges_never_escapes(root: TenantRoot, tmp_path: Path, outside: Path) -> None:
    """A thread of the tenant's swaps a directory with a link out; each opening gives the tenant's own file or fails."""
    home = tmp_path / "acme"
    (outside / "file").write_bytes(SECRET)
    (home / "swap").symlink_to(outside)
    stop = threading.Event()
    swapped = 0

    def swap() -> None:
        nonlocal swapped
        while not stop.is_set() and swapped < EXCHANGES:
            exchange(root.fd, "inside", "swap")
            swapped += 1
        stop.set()

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2 is not None
    racing = threading.Thread(target=swap)
    racing.start()
    read = refused = 0
    while not stop.is_set():
        try:
            assert root.read("inside/file", limit=100) == b"mine"
            read += 1
        except (UnsafePath, NotFound):
            refused += 1
        with contextlib.suppress(CarrelError):
            root.replace("inside/written", b"mine")
    racing.join()
    assert swapped == EXCHANGES
    assert read
    assert refused
    assert sorted(os.listdir(outside)) == ["file", "secret"]


def test_S2_03_the_race_is_real(root: TenantRoot, tmp_path: Path, outside: Path) -> None:
    """The control: opening by name, as the code does nowhere, does escape."""
    home = tmp_path / "acme"
    (outside / "file").write_bytes(SECRET)
    (home / "swap").symlink_to(outside)
    exchange(root.fd, "inside", "swap")
    assert (home / "inside" / "file").read_bytes() == SECRET
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_beneath(root.fd, "inside/file", os.O_RDONLY)


async def test_S2_04_roots_are_for_the_gateway_alone(tmp_path: Path) -> None:
    directory, tasks = Directory(), Tasks("test")
    old = os.umask(0)
    try:
        one = Reconciler(
            tenants_dir=declare(tmp_path / "tenants.d", acme=""), state_dir=tmp_path / "state", directory=directory,
            clock=SystemClock(), tasks=tasks,
        )  # fmt: skip
        await one.load()
        assert directory.current.tenant(TenantId("acme")).root.fd >= 0
    finally:
        os.umask(old)
    for path in (tmp_path / "state").rglob("*"):
        if path.is_dir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    await tasks.close()
    await one.close()


@pytest.mark.parametrize(
    "path",
    ["a\x00b", "a\nb", "a\x1b[2J", "a\x7f", "x" * 256, "é" * 128, "a/" * 2049, "bad\udc80"],
)  # fmt: skip
def test_S2_05_names_with_control_characters_or_without_end_are_refused(root: TenantRoot, path: str) -> None:
    with pytest.raises(UnsafePath):
        root.replace(path, b"x")
    with pytest.raises(UnsafePath):
        root.read(path, limit=1)


@pytest.mark.parametrize("name", ["a b", "é.txt", "漢字", "x" * 255, ".hidden", "-rf", "a'b\"c", "$(id)", "*"])
def test_S2_05_twin_other_names_are_taken_as_they_are(root: TenantRoot, name: str) -> None:
    root.replace(name, b"x")
    assert root.read(name, limit=1) == b"x"


def test_S2_05_descriptors_do_not_pass_to_programs(root: TenantRoot) -> None:
    fd = root.open_file("inside/file")
    try:
        assert not os.get_inheritable(fd)
        assert not os.get_inheritable(root.fd)
        shown = subprocess.run(["ls", f"/proc/self/fd/{fd}"], capture_output=True, check=False, close_fds=False)
        assert shown.returncode != 0
    finally:
        os.close(fd)
