"""A tenant's files, opened beneath a directory's descriptor and never by name from outside.

Every path is resolved by ``openat2`` with RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_SYMLINKS: `..` out of
the root, absolute paths and links are refused by the kernel. What was opened is then judged: a regular file with one
link and the expected owner, opened without blocking, for hard links and FIFOs pass openat2.
"""

import ctypes
import errno
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from carrel.durability import sync_directory
from carrel.errors import CarrelError, InvalidRequest, NotFound, UnsafePath, lacking

_SYS_OPENAT2: Final = 437
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE: Final = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS
_MAX_PATH: Final = 4096
_RETRIES: Final = 64
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

HALF_WRITTEN: Final = re.compile(r"\.carrel-[0-9a-f]{16}\.tmp")
"""The name of a file that is to take another's place: nobody's content until then."""
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of ``path`` beneath the open ``directory``; raises the kernel's OSError (EXDEV, ELOOP, ENOENT)."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE)
    for _ in range(_RETRIES):
        fd = _libc.syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code))
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def require_openat2() -> None:
    """Raise where the kernel has no openat2: there is no safe second way."""
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_beneath(fd, ".", os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        raise CarrelError(
            f"openat2 does not work here ({os.strerror(error.errno or 0)}): Linux 5.6 or later is needed, and a "
            "seccomp policy that lets it through."
        ) from error
    finally:
        os.close(fd)


def clean(path: str) -> str:
    """``path`` as a relative one; raises UnsafePath for control characters and names that are too long."""
    if len(path) > _MAX_PATH or any(len(os.fsencode(part)) > 255 for part in path.split("/")):
        raise UnsafePath("The path is too long.", param="path")
    if _CONTROL.search(path):
        raise UnsafePath("The path has a control character in it.", param="path")
    if _SURROGATE.search(path):
        raise UnsafePath("The path is not valid UTF-8.", param="path")
    return path or "."


TENANT_DIRECTORIES: Final = (
    "sessions", "memory", "plugins", "sandbox", "cron", "channels", "credentials", "devices", "usage"
)  # fmt: skip
"""What a tenant's own directory holds from the start."""


class TenantRoot:
    """A directory of one tenant's, held by its descriptor; everything in it is opened through this."""

    def __init__(self, fd: int, *, owner: int) -> None:
        self._fd = fd
        self._owner = owner

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> "TenantRoot":
        """The root at ``path``, which the gateway itself chose. ``create`` makes it, mode 0700."""
        if create:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return cls(fd, owner=os.fstat(fd).st_uid)

    @property
    def fd(self) -> int:
        """The descriptor, to pass to the launcher or to SQLite's /proc/self/fd path; it stays this object's."""
        return self._fd

    @property
    def owner(self) -> int:
        """The uid that files in here must belong to."""
        return self._owner

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def directory(self, path: str, *, create: bool = False) -> "TenantRoot":
        """The directory ``path`` in here as a root of its own; ``create`` makes what is missing, mode 0700."""
        if create:
            self._make_directories(clean(path))
        return TenantRoot(self._open(path, os.O_RDONLY | os.O_DIRECTORY), owner=self._owner)

    def open_file(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """A descriptor of the regular file ``path``, judged after opening; the caller closes it.

        O_TRUNC takes effect after the judgement, so that a refused file keeps its content.
        """
        first = (flags & ~os.O_TRUNC) | os.O_NONBLOCK | os.O_NOCTTY
        fd = self._open(path, first, mode if flags & os.O_CREAT else 0)
        try:
            self._judge(os.fstat(fd))
            if flags & os.O_TRUNC:
                os.ftruncate(fd, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def read(self, path: str, *, limit: int) -> bytes:
        """The file's content; raises UnsafePath where it is over ``limit`` bytes, StorageFailed for a failing disk."""
        with os.fdopen(self.open_file(path), "rb") as file:
            try:
                data = file.read(limit + 1)
            except OSError as error:
                raise _public(error, "nothing was read") from error
        if len(data) > limit:
            raise UnsafePath(f"The file is over {limit} bytes.", param="path")
        return data

    def replace(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write the whole file so that a reader sees the old or the new, also after a crash.

        It is written at the top of this root first: what a kill leaves there is found without a walk over all of it.
        """
        parent, _, name = clean(path).rpartition("/")
        if name in ("", ".", ".."):
            raise UnsafePath("The path names no file.", param="path")
        directory = self.directory(parent or ".", create=bool(parent))
        temporary = f".carrel-{os.urandom(8).hex()}.tmp"  # as HALF_WRITTEN
        try:
            with os.fdopen(self.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=directory.fd)
            _last(directory.fd)
        except OSError as error:
            self._discard(self, temporary)
            raise _public(error) from error
        finally:
            directory.close()

    def remove(self, path: str) -> None:
        """Remove a file; raises NotFound."""
        parent, _, name = clean(path).rpartition("/")
        directory = self.directory(parent or ".")
        try:
            os.unlink(name, dir_fd=directory.fd)
            _last(directory.fd)
        except OSError as error:
            raise _public(error) from error
        finally:
            directory.close()

    def entries(self, path: str = ".") -> Iterator[tuple[str, os.stat_result]]:
        """Names and (not followed) stats of a directory, in no order."""
        directory = self.directory(path)
        try:
            for name in os.listdir(directory.fd):
                try:
                    yield name, os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
        finally:
            directory.close()

    def _open(self, path: str, flags: int, mode: int = 0) -> int:
        try:
            return open_beneath(self.fd, clean(path), flags, mode)
        except OSError as error:
            raise _public(error) from error

    def _make_directories(self, path: str) -> None:
        at = os.dup(self.fd)
        try:
            for part in (p for p in path.split("/") if p not in ("", ".")):
                if part == "..":
                    raise UnsafePath("The path leaves its root.", param="path")
                try:
                    os.mkdir(part, 0o700, dir_fd=at)
                    os.fsync(at)
                except FileExistsError:
                    pass
                except OSError as error:
                    raise _public(error) from error
                try:
                    below = open_beneath(at, part, os.O_RDONLY | os.O_DIRECTORY)
                except OSError as error:
                    raise _public(error) from error
                os.close(at)
                at = below
        finally:
            os.close(at)

    def _judge(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise UnsafePath("That is not a regular file.", param="path")
        if found.st_nlink != 1:
            raise UnsafePath("That file has more than one hard link.", param="path")
        if found.st_uid != self._owner:
            raise UnsafePath("That file belongs to somebody else.", param="path")

    @staticmethod
    def _discard(directory: "TenantRoot", name: str) -> None:
        try:
            os.unlink(name, dir_fd=directory.fd)
        except OSError:
            return


class LazyTenantRoot(TenantRoot):
    """A tenant's root that is opened on first use, made where it is missing, and closed with the last reference.

    Ten thousand tenants are ten thousand of these, and of descriptors only as many as are in use. None is closed while
    a handle may still use its number: a number that was given back may be another tenant's a moment later.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__(-1, owner=os.geteuid())
        self._path = path
        self._lock = threading.Lock()
        self._closed = False

    @property
    def fd(self) -> int:
        """The descriptor, opened now where it is not; raises CarrelError where the directory is not ours."""
        if self._fd < 0:
            with self._lock:
                if self._fd < 0:
                    if self._closed:
                        raise CarrelError("The tenant's directory was closed.")
                    self._fd = open_tenant_directory(Path(self._path))
        return self._fd

    def close(self) -> None:
        """Give the descriptor back for good."""
        self._closed = True
        super().close()

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def make_tenant_directory(path: Path) -> None:
    """The tenant's directory at ``path``, mode 0700. What it holds from the start is made when it is first opened."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise _public(error) from error


def open_tenant_directory(path: Path) -> int:
    """A descriptor of the tenant's directory at ``path``, made where it is missing, for its owner alone."""
    try:
        make_tenant_directory(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _public(error) from error
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise UnsafePath("The tenant's directory belongs to somebody else.", param="path")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(fd, 0o700)
        made = False
        for name in TENANT_DIRECTORIES:
            try:
                os.mkdir(name, 0o700, dir_fd=fd)
                made = True
            except FileExistsError:
                continue
        if made:
            # Not where the directory is made: ten thousand tenants are made at once, and few of them say anything.
            os.fsync(fd)
            sync_directory(path.parent)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _last(directory: int) -> None:
    """Make the names in ``directory`` last, one of which was changed just now."""
    try:
        os.fsync(directory)
    except OSError as error:
        raise _public(error, "whether the file was changed is not known") from error


def _public(error: OSError, undone: str = "the file is as it was") -> CarrelError:
    """The kernel's refusal as an error of ours, with no host path in it."""
    match error.errno:
        case errno.ENOENT:
            return NotFound("No such file or directory.")
        case errno.EXDEV | errno.ELOOP:
            return UnsafePath("The path leaves its root or passes through a link.", param="path")
        case errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENOTEMPTY | errno.ENXIO | errno.EACCES | errno.EPERM:
            return InvalidRequest(f"{os.strerror(error.errno)}.", param="path")
        case _:
            return lacking(error, undone) or CarrelError(f"A file operation failed: {os.strerror(error.errno or 0)}.")
