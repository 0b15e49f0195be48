"""Root starts the gateway, and is not what runs it: the process becomes an unprivileged uid and executes itself anew.

A sandbox started by uid 0 could change the host (its ``/proc/sys`` is root's to write), so nothing of the gateway is
ever root. `drop_root` does what only root can do for that first, and leaves no way back.
"""

import ctypes
import os
import pwd
import shutil
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from carrel.durability import replace_synced
from carrel.errors import CarrelError
from carrel.main import acl, ownership
from carrel.main.statedir import refused_by_disk
from carrel.main.view import Need, Reader, show

STARTER: Final = "CARREL_STARTER"
"""Set for the process that executes itself anew: ``UID:PID``, whose start it was and in which process that holds."""

FALLBACK_UID: Final = 60987
_OVERFLOW_UID: Final = 65534
_NAME: Final = "carrel"
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_PROGRAMS: Final = ("bwrap", "git", "nix", "nix-build", "nix-store", "ssh", "ssh-keygen")
_KEPT: Final = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "TERM", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES",
    "CREDENTIALS_DIRECTORY", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LOCALE_ARCHIVE", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM",
})  # fmt: skip
_KEPT_PREFIXES: Final = ("CARREL_", "LC_", "PYTHON", "NIX_")

_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522


class CannotDropRoot(CarrelError):
    """The gateway was started by root and cannot become anybody else here. It never goes on as root."""

    code = "cannot_drop_root"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the gateway is once it is no longer root."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Places:
    """The directories that a gateway works with. ``reads`` are more that it only reads; a missing one does no harm.

    ``tenants_dir`` is None where what is declared comes by git, and so is kept in the state.
    """

    state_dir: Path
    tenants_dir: Path | None
    secrets_dir: Path | None = None
    reads: Sequence[Path] = ()


def drop_root(
    places: Places, *, argv: Sequence[str] | None = None, environ: MutableMapping[str, str] | None = None
) -> int:
    """The uid of whoever started the gateway. Where that is root, this does not return: ``argv`` runs as another uid.

    ``argv`` is the whole command, this very one by default. It is executed in this process (its pid stays) with the
    state directory made its own, tenants.d let to it, all it needs reachable, no capability, no way to gain one, and an
    environment of what a gateway reads. There, and wherever root did not start it, this only returns.

    Raises CannotDropRoot, also where one of the directories cannot be handed over.
    """
    env = os.environ if environ is None else environ
    mark = env.pop(STARTER, "")
    starter = os.getuid()
    if 0 not in os.getresuid():
        return _marked(mark, starter, places)
    try:
        os.setresuid(0, 0, 0)
        who = identity(places.tenants_dir or places.state_dir, env)
        not_state = [*places.reads, *_code()]
        if places.tenants_dir is not None:
            not_state.append(places.tenants_dir)
        if places.secrets_dir is not None:
            not_state.append(places.secrets_dir)
        state = ownership.give_state(places.state_dir, who.uid, who.gid, apart_from=not_state)
        if places.tenants_dir is not None:
            _let_declare(places.tenants_dir, who)
        show(_needs(places, env), Reader(who.uid, who.gid))
        _execute(argv, who, environment(env, who, state, starter))
    except CannotDropRoot:
        raise
    except CarrelError as error:
        raise CannotDropRoot(
            f"Started by root, the gateway first gives what it works with to another uid. {error.message}"
        ) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise CannotDropRoot(
            f"Started by root, the gateway cannot become another uid here: {error.strerror}{where}. "
            "Start it as an unprivileged user."
        ) from error


def asked_by(starter: int, environ: Mapping[str, str]) -> int:
    """The uid of the person behind ``starter``, which `drop_root` gave: who called sudo, where that is root."""
    sudo = environ.get("SUDO_UID", "")
    return int(sudo) if starter == 0 and sudo.isdecimal() else starter


def identity(tenants_dir: Path, environ: Mapping[str, str]) -> Identity:
    """Who to be: the user carrel, else the owner of tenants.d, else who called sudo, else a uid of nobody's."""
    try:
        user = pwd.getpwnam(_NAME)
    except KeyError:
        pass
    else:
        if user.pw_uid != 0:
            return Identity(user.pw_uid, user.pw_gid or user.pw_uid, _NAME)
    candidates: list[tuple[int, int]] = []
    if tenants_dir.is_dir():
        found = tenants_dir.stat()
        candidates.append((found.st_uid, found.st_gid))
    sudo = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if sudo[0].isdecimal():
        candidates.append((int(sudo[0]), int(sudo[1]) if sudo[1].isdecimal() else 0))
    usable = (c for c in candidates if 0 < c[0] < (1 << 32) - 1 and c[0] != _OVERFLOW_UID)
    uid, gid = next(usable, (FALLBACK_UID, FALLBACK_UID))
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return Identity(uid, gid or uid, _NAME)
    return Identity(uid, user.pw_gid or gid or uid, user.pw_name)


def environment(environ: Mapping[str, str], who: Identity, state: Path, starter: int) -> dict[str, str]:
    """What of ``environ`` goes on: what a gateway reads, nothing of root's home, session or proxies."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    if starter == 0 and "SUDO_UID" in environ:
        kept["SUDO_UID"] = environ["SUDO_UID"]
    return kept | {
        "HOME": str(state),
        "USER": who.name,
        "LOGNAME": who.name,
        # The default is found from the home, which is another one now.
        "CARREL_STATE_DIR": str(state),
        STARTER: f"{starter}:{os.getpid()}",
    }


def _marked(mark: str, starter: int, places: Places) -> int:
    """The starter that ``mark`` names, where this is the process it was made for.

    Who writes it by hand admits another uid to the control socket of a gateway that is their own anyway.
    """
    uid, _, pid = mark.partition(":")
    if pid != str(os.getpid()) or not uid.isdecimal() or int(uid) >= (1 << 32) - 1:
        return starter
    _trust_work_tree(places)
    return int(uid)


def _trust_work_tree(places: Places) -> None:
    """Make git work in the starter's work tree: before 2.38 it takes the word for that from a home's file alone."""
    top = ownership.work_tree(places.tenants_dir.resolve()) if places.tenants_dir is not None else None
    if top is None or top.stat().st_uid == os.getuid():
        return
    quoted = str(top).replace("\\", "\\\\").replace('"', '\\"')
    path, text = places.state_dir / ".gitconfig", f'[safe]\n\tdirectory = "{quoted}"\n'.encode()
    try:
        # As it was before is well enough: a disk that is full, or only read, is no reason not to start.
        if not path.is_file() or path.read_bytes() != text:
            replace_synced({path: text})
    except OSError as error:
        raise refused_by_disk(error) or CannotDropRoot(
            f"Started by root, the gateway cannot write {path}: {error.strerror}."
        ) from error


def _let_declare(tenants_dir: Path, who: Identity) -> None:
    if not tenants_dir.is_dir():
        return
    try:
        ownership.let_declare(tenants_dir, who.uid)
    except acl.NoAccessLists as error:
        sys.stderr.write(
            f"carrel: {tenants_dir} stays as it is, for its file system takes no access list ({error.message}): uid "
            f"{who.uid} reads it where its modes allow that, and `carrel tenants create` needs `chown -R {who.uid}`.\n"
        )
        sys.stderr.flush()


# --- what must be reachable ---


def _code() -> list[Path]:
    """Where this Python and this code are."""
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    return [Path(prefix) for prefix in sorted(prefixes)] + [_PACKAGE]


def _needs(places: Places, environ: Mapping[str, str]) -> list[Need]:
    real_tenants = places.tenants_dir.resolve() if places.tenants_dir is not None else None
    needs = [Need(path) for path in _code()]
    # A checkout is needed whole: its package set and what was fetched for it lie beside the code.
    for place in (_PACKAGE, real_tenants):
        top = ownership.work_tree(place) if place is not None else None
        needs += [] if top is None else [Need(top, optional=True)]
    here = _working_directory()
    needs += [Need(Path(entry)) for entry in sys.path if entry and Path(entry) != here]
    needs += [Need(here, passed=True, optional=True)]
    needs += [Need(Path(sys.executable)), Need(_PACKAGE.parent), *([Need(Path(sys.argv[0]))] if sys.argv[0] else [])]
    programs = [shutil.which(name, path=environ.get("PATH")) for name in _PROGRAMS]
    needs += [Need(Path(found).parent, optional=True) for found in programs if found]
    needs += [Need(path) for path in places.reads]
    needs += [Need(places.state_dir, written=True)]
    if places.tenants_dir is not None and real_tenants is not None:
        needs += [Need(places.tenants_dir, written=True)]
        needs += [Need(path, written=True) for path in ownership.git_directories(real_tenants)]
    secrets = [places.secrets_dir, environ.get("CREDENTIALS_DIRECTORY")]
    return needs + [Need(Path(place), secret=True) for place in secrets if place]


# --- no way back ---


def _execute(argv: Sequence[str] | None, who: Identity, environ: Mapping[str, str]) -> NoReturn:
    command = list(argv) if argv is not None else [sys.executable, *sys.orig_argv[1:]]
    reader = Reader(who.uid, who.gid)
    for file, rights in ((Path(command[0]), os.X_OK), (_PACKAGE / "__init__.py", os.R_OK)):
        if not reader.may(file, rights):
            raise CannotDropRoot(
                f"Started by root, the gateway runs as uid {who.uid}, which cannot read {file}: it was made under a "
                "strict umask. Let others read it (chmod -R go+rX), or start the gateway as its owner."
            )
    # By its name again: the descriptor of before would lead around what is mounted now.
    os.chdir(_working_directory())
    _keep_only_standard_streams()
    shed(who)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, dict(environ))  # noqa: S606 - the very command that was started


def _working_directory() -> Path:
    """Where relative paths begin; the root where that was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("/")


def _keep_only_standard_streams() -> None:
    """Nothing that root had open goes on, for a directory among it would lead around every mount."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:
                continue


def shed(who: Identity) -> None:
    """Become ``who`` for good: no groups of root's, no capability in any set, none to be gained by a program."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0 or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "capabilities cannot be given up")
    if os.getresuid() != (who.uid,) * 3 or os.getresgid() != (who.gid,) * 3 or os.getgroups():
        raise OSError(0, "the uid did not change as it must")
