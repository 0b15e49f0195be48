"""What the uid that root drops to can reach by name, in a mount namespace of its own where that takes one.

A Python, a checkout or a state directory may lie under a home of mode 0700. Nothing on disk is opened wider for that:
in the namespace, which ends with its last process, an empty file system hides each such directory, and only what is
needed is bound beneath it under its own name, to be read and not written but for what is said to be written.
"""

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError
from carrel.secrets import MAX_SECRET_BYTES

_CLONE_NEWNS: Final = 0x00020000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_NOATIME, _NODIRATIME, _BIND, _REC, _SLAVE, _RELATIME = 1 << 10, 1 << 11, 1 << 12, 1 << 14, 1 << 19, 1 << 21
_KEPT: Final = _NOSUID | _NODEV | _NOEXEC | _NOATIME | _NODIRATIME
_ST_RELATIME: Final = 1 << 12
_MAX_LINKS: Final = 40
_OPEN: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class CannotShow(CarrelError):
    """What the gateway needs cannot be made reachable for the uid that it is to run as."""

    code = "cannot_show"


@dataclass(frozen=True, slots=True)
class Need:
    """A file or directory that is needed under the name ``path``; one that does not exist is not.

    ``secret`` files are shown to the uid although they are only root's to read. A directory to be ``passed`` is one on
    the way to others, of which no more is shown. Without what is ``optional`` the gateway works, if less well.
    """

    path: Path
    written: bool = False
    secret: bool = False
    passed: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """The uid and gid that must be able to reach things."""

    uid: int
    gid: int

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Within this, the kernel judges access as it will for the reader."""
        groups, gid = os.getgroups(), os.getegid()
        os.setgroups([])
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(gid)
            os.setgroups(groups)

    def may(self, path: Path, rights: int) -> bool:
        """Whether the reader has ``rights`` (os.R_OK and its like) on ``path``."""
        with self.acting():
            return os.access(path, rights, effective_ids=True)

    def may_search(self, directory: int, rights: int = os.X_OK) -> bool:
        """Whether the reader has ``rights`` on the directory behind a descriptor, wherever that lies."""
        with self.acting():
            return os.access(".", rights, dir_fd=directory, effective_ids=True)


def trace(path: Path) -> tuple[Path, list[Path]]:
    """Where ``path`` really leads, and the links on the way, each under a name without links."""
    todo = [part for part in reversed(path.absolute().parts) if part != "/"]
    at, links = Path("/"), []
    while todo:
        name = todo.pop()
        if name == "..":
            at = at.parent
            continue
        try:
            target = str((at / name).readlink())
        except OSError:
            at /= name
            continue
        links.append(at / name)
        if len(links) > _MAX_LINKS:
            raise CannotShow(f"{path} leads through too many links.")
        if target.startswith("/"):
            at = Path("/")
        todo += [part for part in reversed(Path(target).parts) if part not in ("/", ".")]
    return at, links


def show(needs: Sequence[Need], reader: Reader) -> None:
    """Make all of ``needs`` reachable for ``reader`` from here on in this process; raises CannotShow.

    Where they are already, nothing is done.
    """
    traced = {need.path: trace(need.path) for need in needs}
    needs = [need for need in needs if os.path.lexists(traced[need.path][0])]
    kept_out = [need for need in needs if not _reaches(traced[need.path][0], need, reader)]
    if not kept_out:
        return
    try:
        _unshare()
    except OSError as error:
        missing = ", ".join(dict.fromkeys(str(need.path) for need in kept_out if not need.optional))
        if not missing:
            return
        raise CannotShow(
            f"uid {reader.uid} cannot reach {missing}, and a mount namespace "
            f"that would show it is not permitted here ({os.strerror(error.errno or 0)}): let that uid read it and "
            "enter the directories above it, or start the gateway as its owner."
        ) from error
    steps: list[_Link | _Bind] = []
    try:
        for need in needs:
            real, links = traced[need.path]
            steps += [_Link(link, str(link.readlink())) for link in links]
            steps += _sources(real, need, reader)
        for step in sorted(steps, key=lambda step: len(step.path.parts)):
            _place(step, reader)
    except OSError as error:
        raise CannotShow(
            f"what the gateway needs cannot be shown to uid {reader.uid}: {error.strerror} ({error.filename})."
        ) from error
    finally:
        for step in steps:
            if isinstance(step, _Bind):
                os.close(step.source)


@dataclass(frozen=True, slots=True)
class _Link:
    path: Path
    target: str


@dataclass(frozen=True, slots=True)
class _Bind:
    """``source`` is a descriptor; ``hollow`` directories are shown empty, to be filled by deeper steps."""

    path: Path
    source: int
    written: bool = False
    hollow: bool = False
    secret: bool = False


def _reaches(real: Path, need: Need, reader: Reader) -> bool:
    """Whether the reader has ``real`` as it is: every directory above, itself, and each secret in it."""
    if need.passed:
        return reader.may(real, os.X_OK)
    if not real.is_dir():
        return reader.may(real, os.R_OK)
    if not reader.may(real, os.R_OK | os.X_OK):
        return False
    return not need.secret or all(reader.may(file, os.R_OK) for file in real.iterdir())


def _sources(real: Path, need: Need, reader: Reader) -> "Iterator[_Link | _Bind]":
    """What to bind for ``real``: itself, or its entries one by one where its own mode keeps the reader out."""
    fd = os.open(real, _OPEN)
    if need.passed:
        yield _Bind(real, fd, hollow=True)
        return
    if need.secret or not stat.S_ISDIR(os.fstat(fd).st_mode) or reader.may_search(fd, os.R_OK | os.X_OK):
        closed = need.secret and not _reaches_beneath(fd, reader)
        yield _Bind(real, fd, written=need.written, secret=closed)
        return
    yield _Bind(real, fd, hollow=True)
    if need.written:
        raise CannotShow(f"uid {reader.uid} cannot read {need.path}: let it belong to that uid (chown -R), or be read.")
    for entry in real.iterdir():
        if entry.is_symlink():
            yield _Link(entry, str(entry.readlink()))
            continue
        below = os.open(entry, _OPEN)
        if stat.S_ISDIR(os.fstat(below).st_mode) and not reader.may_search(below):
            # Closed for a reason of its own: what is needed in there is bound by its own name.
            os.close(below)
        else:
            yield _Bind(entry, below)


def _reaches_beneath(directory: int, reader: Reader) -> bool:
    """Whether the reader, once at the directory, can read all that is in it."""
    if not reader.may_search(directory, os.R_OK | os.X_OK):
        return False
    names = os.listdir(f"/proc/self/fd/{directory}")
    with reader.acting():
        return all(os.access(name, os.R_OK, dir_fd=directory, effective_ids=True) for name in names)


# --- in the new namespace ---


def _place(step: "_Link | _Bind", reader: Reader) -> None:
    for directory in reversed(step.path.parents):
        if not os.path.lexists(directory):
            directory.mkdir()
            directory.chmod(0o711)
        elif not reader.may(directory, os.X_OK):
            _mount("tmpfs", directory, kind="tmpfs", flags=_NOSUID | _NODEV, data="mode=0711,size=1m")
    if isinstance(step, _Link):
        if not os.path.lexists(step.path):
            step.path.symlink_to(step.target)
        return
    source = f"/proc/self/fd/{step.source}"
    if step.hollow:
        if not os.path.lexists(step.path):
            step.path.mkdir()
            step.path.chmod(0o755)
        elif not reader.may(step.path, os.X_OK):
            _mount("tmpfs", step.path, kind="tmpfs", flags=_NOSUID | _NODEV, data="mode=0755,size=1m")
        return
    if step.secret:
        _show_secrets(source, step.path, reader)
        return
    if _is_there(step):
        return
    _point(step.path, stat.S_ISDIR(os.fstat(step.source).st_mode))
    _mount(source, step.path, flags=_BIND | _REC)
    if not step.written:
        _read_only(step.path)


def _is_there(step: _Bind) -> bool:
    """Whether the very thing is at its name already, and can be written where it must be."""
    try:
        here = step.path.lstat()
    except FileNotFoundError:
        return False
    wanted = os.fstat(step.source)
    if (here.st_dev, here.st_ino) != (wanted.st_dev, wanted.st_ino):
        return False
    return not (step.written and os.statvfs(step.path).f_flag & os.ST_RDONLY)


def _point(path: Path, directory: bool) -> None:
    """Something to mount on."""
    if os.path.lexists(path):
        return
    if directory:
        path.mkdir()
    else:
        path.touch()


def _show_secrets(source: str, path: Path, reader: Reader) -> None:
    """Copies in memory that are the reader's own; what is on disk keeps its owner and its mode."""
    found = Path(source).stat()
    if found.st_uid not in (0, reader.uid):
        raise CannotShow(
            f"the secrets in {path} belong to uid {found.st_uid}: let them belong to root or to uid {reader.uid}."
        )
    _point(path, directory=True)
    _mount("tmpfs", path, kind="tmpfs", flags=_NOSUID | _NODEV | _NOEXEC, data="mode=0700,size=64m")
    for name in os.listdir(source):
        file = Path(source, name)
        if not file.is_file():
            continue
        with file.open("rb") as original:
            value = original.read(MAX_SECRET_BYTES + 1)
        copy = os.open(path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        try:
            os.write(copy, value)
            os.fchown(copy, reader.uid, reader.gid)
        finally:
            os.close(copy)
    os.chown(path, reader.uid, reader.gid)
    _mount("tmpfs", path, flags=_REMOUNT | _RDONLY | _NOSUID | _NODEV | _NOEXEC, data="mode=0700,size=64m")


def _read_only(path: Path) -> None:
    """Make a bind read-only; the other restrictions of its file system stay, for a container may not lift them."""
    flags = os.statvfs(path).f_flag
    kept = flags & _KEPT | (_RELATIME if flags & _ST_RELATIME else 0)
    _mount("none", path, flags=_BIND | _REMOUNT | _RDONLY | kept)


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    # What the host mounts and unmounts later is seen here too; nothing of this is seen there.
    _mount("none", Path("/"), flags=_REC | _SLAVE)


def _mount(source: str, target: Path, *, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = (source.encode(), os.fsencode(target), kind.encode() if kind else None)
    if libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
