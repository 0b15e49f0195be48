import errno
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.errors import CarrelError, InvalidRequest, NotFound, StorageFailed, UnsafePath
from carrel.tenancy.paths import (
    HALF_WRITTEN,
    TENANT_DIRECTORIES,
    LazyTenantRoot,
    TenantRoot,
    clean,
    make_tenant_directory,
    open_beneath,
    require_openat2,
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[TenantRoot]:
    made = TenantRoot.open(tmp_path / "acme", create=True)
    yield made
    made.close()


def test_openat2_works_here() -> None:
    require_openat2()


def test_a_file_is_written_whole_and_read(root: TenantRoot) -> None:
    root.replace("a/b/c.txt", b"one")
    root.replace("a/b/c.txt", b"two")
    assert root.read("a/b/c.txt", limit=3) == b"two"
    assert [name for name, _ in root.entries("a/b")] == ["c.txt"]
    with pytest.raises(UnsafePath, match="over 2 bytes"):
        root.read("a/b/c.txt", limit=2)


def test_a_disk_that_does_not_give_what_is_there_is_storage_failed(
    root: TenantRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.replace("notes", b"x")

    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def opened(fd: int, _: str) -> Failing:
        os.close(fd)
        return Failing()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", opened)
        with pytest.raises(StorageFailed, match="nothing was read"):
            root.read("notes", limit=10)
    assert root.read("notes", limit=10) == b"x"


def test_a_failed_replace_leaves_nothing_behind(root: TenantRoot) -> None:
    root.directory("a/taken", create=True).close()
    with pytest.raises(InvalidRequest):
        root.replace("a/taken", b"x")
    assert [name for name, _ in root.entries("a")] == ["taken"]


def test_what_a_kill_leaves_is_at_the_top(root: TenantRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.replace("deep/er/file", b"whole")

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(SystemExit):
        root.replace("deep/er/file", b"another")
    assert root.read("deep/er/file", limit=100) == b"whole"
    [left] = [path for path in (tmp_path / "acme").rglob("*") if HALF_WRITTEN.fullmatch(path.name)]
    assert left.parent == tmp_path / "acme"


def test_a_long_name_in_many_bytes_is_replaced_too(root: TenantRoot) -> None:
    name = "é" * 127
    root.replace(name, b"x")
    assert root.read(name, limit=1) == b"x"


def test_what_is_made_is_for_its_owner_alone(root: TenantRoot, tmp_path: Path) -> None:
    root.replace("a/b", b"x")
    for path in (tmp_path / "acme", tmp_path / "acme" / "a", tmp_path / "acme" / "a" / "b"):
        assert path.stat().st_mode & 0o077 == 0


def test_missing_things_are_not_found(root: TenantRoot) -> None:
    for work in (lambda: root.read("x", limit=1), lambda: root.remove("x"), lambda: root.directory("x")):
        with pytest.raises(NotFound):
            work()


def test_removing(root: TenantRoot) -> None:
    root.replace("a/b", b"x")
    root.remove("a/b")
    assert list(root.entries("a")) == []


def test_a_path_that_names_no_file_is_refused(root: TenantRoot) -> None:
    for path in ("", ".", "a/", "a/..", ".."):
        with pytest.raises(UnsafePath):
            root.replace(path, b"x")


def test_opening_to_write_makes_and_cuts(root: TenantRoot) -> None:
    for data in (b"longer", b"x"):
        with os.fdopen(root.open_file("f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(data)
    assert root.read("f", limit=10) == b"x"


@pytest.mark.parametrize("bad", ["a\x00b", "a\nb", "\x1f", "a\x7f", "a\udc80", "a" * 256, "a/" * 2049])
def test_clean_refuses_what_is_no_name(bad: str) -> None:
    with pytest.raises(UnsafePath):
        clean(bad)


def test_clean_takes_ordinary_names() -> None:
    assert clean("a/b c/é.txt") == "a/b c/é.txt"
    assert clean("") == "."


def test_open_beneath_gives_the_kernels_reason(root: TenantRoot) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
        open_beneath(root.fd, "../x", os.O_RDONLY)


def test_closed_means_closed(tmp_path: Path) -> None:
    root = TenantRoot.open(tmp_path / "x", create=True)
    root.close()
    root.close()
    with pytest.raises(CarrelError):
        root.read("a", limit=1)


def test_a_lazy_root_opens_on_first_use_with_all_that_it_holds(tmp_path: Path) -> None:
    make_tenant_directory(tmp_path / "acme")
    root = LazyTenantRoot(tmp_path / "acme")
    assert root._fd == -1
    root.replace("sandbox/x", b"1")
    assert root._fd >= 0
    assert {name for name, _ in root.entries()} == set(TENANT_DIRECTORIES)
    fd = root.fd
    del root
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(fd)


def test_a_lazy_root_mends_a_mode_that_is_too_open(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir(mode=0o755)
    root = LazyTenantRoot(tmp_path / "acme")
    assert root.fd >= 0
    assert (tmp_path / "acme").stat().st_mode & 0o777 == 0o700
    root.close()
    with pytest.raises(CarrelError):
        _ = root.fd


def test_a_lazy_root_does_not_follow_a_link_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "acme").symlink_to("elsewhere")
    with pytest.raises(CarrelError):
        _ = LazyTenantRoot(tmp_path / "acme").fd
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_where_no_descriptor_is_left_it_is_an_error_of_ours(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    make_tenant_directory(tmp_path / "acme")
    lowest_free = os.dup(0)
    os.close(lowest_free)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        with pytest.raises(CarrelError):
            _ = LazyTenantRoot(tmp_path / "acme").fd
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
