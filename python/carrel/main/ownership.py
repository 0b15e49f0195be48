"""Hands directories to the uid that the gateway becomes: state as a whole, tenants.d and its git by access lists.

All of it runs as root on trees that others may have written, so every step is by descriptor and no link is followed.
"""

import contextlib
import fcntl
import os
import pwd
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError
from carrel.main import acl
from carrel.main.statedir import MAY_BE_FIRST, StateInUse
from carrel.main.view import trace

MAX_DEPTH: Final = 250
_PARTS_OF_STATE: Final = frozenset({"tenants", "audit", "envs", "run", "git"})
_SYSTEM: Final = frozenset(
    map(
        Path,
        (
            "/", "/home", "/root", "/media", "/mnt", "/nix", "/opt", "/run", "/srv", "/var", "/var/cache",
            "/var/lib", "/var/lib/private", "/var/local", "/var/log", "/var/opt", "/var/spool",
            "/tmp", "/var/tmp",  # noqa: S108 - nothing is put there: they are refused
        ),
    )
)  # fmt: skip
_SYSTEM_TREES: Final = tuple(
    map(Path, ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/nix/store", "/proc", "/sbin", "/sys", "/usr"))
)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMED: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

Visit = Callable[[int, os.stat_result, tuple[str, ...]], None]
"""Told a descriptor (of a directory it reads, else O_PATH), what it is, and its names from the top."""


class NotOurs(CarrelError):
    """A directory cannot be handed over: it is none of Carrel's, or somebody else could redirect what is done to it."""

    code = "not_ours"


def give_state(path: Path, uid: int, gid: int, *, apart_from: Iterable[Path]) -> Path:
    """Make the state directory ``path`` belong to ``uid``, created where it is missing; its real path.

    ``apart_from`` may not lie in it: they are not state. Raises NotOurs, StateInUse, OSError.
    """
    real = Path(os.path.realpath(path))
    _refuse_links_of_others(path)
    _refuse_system(real, apart_from)
    with _opened(_created(real, uid, gid)) as top:
        found = os.fstat(top)
        if found.st_uid == uid:
            return real
        names = set(os.listdir(top)) - MAY_BE_FIRST
        if names and not names & _PARTS_OF_STATE:
            raise NotOurs(
                f"{path} is not empty and is no state directory of Carrel's: name an empty or new one with --state-dir."
            )
        _refuse_in_use(top, path)
        os.fchmod(top, 0o700)
        _give(top, found.st_uid, uid, gid)
    return real


def let_declare(tenants_dir: Path, uid: int) -> None:
    """Let ``uid`` read and write tenants.d, and commit in the git work tree that it is in; raises acl.NoAccessLists.

    Git's configuration and hooks are not handed over, and nothing changes its owner.
    """
    real = Path(os.path.realpath(tenants_dir))
    with _opened(os.open(real, _DIRECTORY)) as top:
        if os.fstat(top).st_uid != uid:
            _visit(top, lambda fd, found, names: _let_edit(fd, found, names, uid))
    for directory in git_directories(real):
        with _opened(os.open(directory, _DIRECTORY)) as top:
            if os.fstat(top).st_uid != uid and not acl.inherits(_name(top), uid, 7):
                _visit(top, lambda fd, found, names: _let_commit(fd, found, names, uid), skip=("hooks", "modules"))


def work_tree(path: Path) -> Path | None:
    """The top of the git work tree that ``path`` is in, found by name alone."""
    return next((d for d in (path, *path.parents) if os.path.lexists(d / ".git")), None)


def git_directories(path: Path) -> list[Path]:
    """Where git keeps the work tree that ``path`` is in: its own directory, and the shared one of a linked tree."""
    top = work_tree(path)
    if top is None:
        return []
    own = top / ".git"
    if own.is_file():
        text = own.read_text(errors="replace").strip()
        own = Path(os.path.realpath(top / text.removeprefix("gitdir:").strip()))
    if own.is_symlink() or not (own / "HEAD").is_file():
        return []
    try:
        shared = Path(os.path.realpath(own / (own / "commondir").read_text().strip()))
    except OSError:
        return [own]
    return [own, shared] if (shared / "objects").is_dir() else [own]


# --- what may not be handed over ---


def _refuse_links_of_others(path: Path) -> None:
    """A link that another uid can turn elsewhere must not decide what root gives away."""
    for link in trace(path)[1]:
        owner = link.lstat().st_uid
        if owner != 0:
            raise NotOurs(f"{path} leads through the link {link} of uid {owner}: name the directory itself.")


def _refuse_system(real: Path, apart_from: Iterable[Path]) -> None:
    if real in _SYSTEM or any(real.is_relative_to(tree) for tree in _SYSTEM_TREES):
        raise NotOurs(f"{real} belongs to the system: name a directory of Carrel's own with --state-dir.")
    # The user carrel's home is its state directory where a package made that user.
    homes = (Path(user.pw_dir) for user in pwd.getpwall() if user.pw_dir.startswith("/") and user.pw_name != "carrel")
    for other in (*homes, *(Path(os.path.realpath(path)) for path in apart_from)):
        if other.is_relative_to(real):
            raise NotOurs(f"{real} holds {other}, which is not state: name a directory of its own with --state-dir.")


def _refuse_in_use(top: int, path: Path) -> None:
    """A gateway of another uid that runs would lose its files while it works."""
    try:
        run = os.open("run", _DIRECTORY, dir_fd=top)
    except OSError:
        return
    with _opened(run):
        try:
            lock = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=run)
        except OSError:
            return
    with _opened(lock):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateInUse(
                f"another gateway uses the state directory {path}: stop it, or choose another with --state-dir."
            ) from error


# --- walking ---


def _created(real: Path, uid: int, gid: int) -> int:
    """A descriptor of ``real``. What is missing above it belongs to whom the directory it is made in belongs."""
    fd = os.open("/", _DIRECTORY)
    for place, name in enumerate(real.parts[1:], 2):
        with _opened(fd):
            try:
                below = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                last = place == len(real.parts)
                above = os.fstat(fd)
                os.mkdir(name, 0o700 if last else 0o755, dir_fd=fd)
                below = os.open(name, _DIRECTORY, dir_fd=fd)
                os.fchown(below, uid if last else above.st_uid, gid if last else above.st_gid)
                # With its owner: else the next start after a power cut would hand over all that is in it once more.
                os.fsync(below)
                os.fsync(fd)
        fd = below
    return fd


def _give(top: int, before: int, uid: int, gid: int) -> None:
    """Change the owner of all in ``top`` and last of itself, so that a walk that was cut short is done again.

    In a tree of another uid, what belongs to a third one stays as it is: it may be a hard link to a file elsewhere.
    """

    def give(fd: int, found: os.stat_result, names: tuple[str, ...]) -> None:
        if found.st_uid != uid and (before in (0, found.st_uid)):
            os.chown(_name(fd), uid, gid)

    _visit(top, give, skip=("lost+found",))


def _let_edit(fd: int, found: os.stat_result, names: tuple[str, ...], uid: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        acl.let(_name(fd), uid, acl.READ | acl.WRITE | acl.ENTER, inherited=True)
    elif stat.S_ISREG(found.st_mode) and found.st_uid != uid and found.st_nlink == 1:
        acl.let(_name(fd), uid, acl.READ | acl.WRITE)


def _let_commit(fd: int, found: os.stat_result, names: tuple[str, ...], uid: int) -> None:
    """Git replaces files but for the reflogs and the last message, which it opens; in directories it makes things."""
    if stat.S_ISDIR(found.st_mode):
        acl.let(_name(fd), uid, acl.READ | acl.WRITE | acl.ENTER, inherited=True)
    elif stat.S_ISREG(found.st_mode) and found.st_uid != uid:
        if names[0] in ("logs", "COMMIT_EDITMSG"):
            acl.let(_name(fd), uid, acl.READ | acl.WRITE)
        elif not found.st_mode & stat.S_IROTH:
            acl.let(_name(fd), uid, acl.READ)


def _visit(top: int, do: Visit, *, skip: Sequence[str] = (), names: tuple[str, ...] = ()) -> None:
    """Tell ``do`` of all beneath the directory ``top`` on its own file system, each directory after its content."""
    if len(names) > MAX_DEPTH:
        raise NotOurs(f"{'/'.join(names[:3])}/... is more than {MAX_DEPTH} directories deep: hand it over by chown -R.")
    here = os.fstat(top)
    for name in os.listdir(top):
        if not names and name in skip:
            continue
        with contextlib.suppress(FileNotFoundError), _opened(os.open(name, _NAMED, dir_fd=top)) as fd:
            found = os.fstat(fd)
            if not stat.S_ISDIR(found.st_mode):
                do(fd, found, (*names, name))
            elif found.st_dev == here.st_dev:
                with _opened(os.open(".", _DIRECTORY, dir_fd=fd)) as below:
                    _visit(below, do, names=(*names, name))
    do(top, here, names)


def _name(fd: int) -> str:
    """A name for the very thing that ``fd`` is open on, for calls that take no descriptor of this kind."""
    return f"/proc/self/fd/{fd}"


@contextlib.contextmanager
def _opened(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
