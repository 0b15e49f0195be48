"""What a gateway that was killed left half done beside the files that count: taken away by the next one.

A file is replaced by writing its successor beside it, and git locks what it changes by a file of that name. Whoever is
killed in between leaves these. None is ever read; a lock would refuse every commit after. Of git's
locks only those of this gateway's uid are touched, and none of a repository that a git of this uid works in.
"""

import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import structlog

from carrel.main.ownership import git_directories
from carrel.tenancy.paths import HALF_WRITTEN

_OF_THE_STATE: Final = re.compile(r"\.?[a-z.-]+(\.\d+)?\.tmp|\.master\.marks\.[0-9a-f]+|.+\.half")
_OF_DECLARATIONS: Final = re.compile(r"\..+\.ya?ml\.\d+\.tmp")
_OF_GIT: Final = re.compile(r".+\.lock|tmp_obj_.+")
_NOT_OURS: Final = frozenset({"sandbox", "sandboxes", "snapshots"})
"""A workspace's files are its people's, but for what is half written at its top: see `TenantRoot.replace`."""
_WORKSPACES: Final = ("tenants/*/sandbox", "tenants/*/sandbox.d/*")
_HALF_SNAPSHOTS: Final = "tenants/*/snapshots/.making-*"
_DEEP: Final = 4
_GIT_SECONDS: Final = 5.0
"""A git that outlived its gateway ends by itself in less."""
_log = structlog.get_logger(__name__)


def clear_before(state: Path, tenants_dir: Path | None) -> list[str]:
    """Before anything is written: what is left in the state itself and in tenants.d. Blocks. The names, for the log."""
    gone = _removed(entry for place in (state, state / "audit", state / "git", state / "envs")
                    for entry in _files(place) if _OF_THE_STATE.fullmatch(entry.name))  # fmt: skip
    repositories = [state / "git" / "tenants.git"]
    if tenants_dir is not None:
        half = (entry for entry in _files(tenants_dir) if _OF_DECLARATIONS.fullmatch(entry.name))
        gone += _removed(entry for entry in half if _ended(entry))
        repositories += git_directories(tenants_dir)
    for repository in repositories:
        gone += _clear_git(repository)
    for name in gone:
        _log.warning("what a killed gateway left half done was taken away", file=name)
    return gone


def clear_tenants(state: Path) -> list[str]:
    """The same in tenants' directories, while the gateway serves already: only what is older than it. Blocks."""
    began = (state / "run" / "lock").stat().st_ctime_ns
    halves = [half for half in state.glob(_HALF_SNAPSHOTS) if half.lstat().st_ctime_ns < began]
    for half in halves:
        shutil.rmtree(half, ignore_errors=True)
    tops = (entry for pattern in _WORKSPACES for top in state.glob(pattern) for entry in _files(top))
    return [str(half) for half in halves] + _removed(
        entry for entry in itertools.chain(_below(state / "tenants", _DEEP), tops)
        if HALF_WRITTEN.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_ctime_ns < began
    )  # fmt: skip


def _files(place: Path) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(place) as entries:
            yield from [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return


def _below(place: Path | str, deep: int) -> Iterator["os.DirEntry[str]"]:
    try:
        with os.scandir(place) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        if entry.is_file(follow_symlinks=False):
            yield entry
        elif deep and entry.is_dir(follow_symlinks=False) and entry.name not in _NOT_OURS:
            yield from _below(entry.path, deep - 1)


def _removed(entries: Iterator["os.DirEntry[str]"]) -> list[str]:
    gone = []
    for entry in entries:
        try:
            Path(entry.path).unlink()
        except OSError:
            continue
        gone.append(entry.path)
    return gone


def _ended(entry: "os.DirEntry[str]") -> bool:
    """Whether the process whose number is in the name is over: a command may write there too."""
    pid = int(entry.name.split(".")[-2])
    if pid == os.getpid():
        return True
    try:
        return b"carrel" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


# --- git ---


def _clear_git(repository: Path) -> list[str]:
    if not any(map(_ours, _git_left(repository))):
        return []
    deadline = time.monotonic() + _GIT_SECONDS
    while _git_works(repository):
        if time.monotonic() > deadline:
            _log.warning("git works in the repository for long, and its locks stay", repository=str(repository))
            return []
        time.sleep(0.02)
    return _removed(entry for entry in _git_left(repository) if _ours(entry))


def _ours(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False


def _git_left(repository: Path) -> Iterator["os.DirEntry[str]"]:
    places = [repository, repository / "refs", repository / "logs", *_directories(repository / "objects")]
    for place in places:
        entries = _below(place, _DEEP) if place.name in ("refs", "logs") else _files(place)
        yield from (entry for entry in entries if _OF_GIT.fullmatch(entry.name))


def _directories(place: Path) -> list[Path]:
    try:
        with os.scandir(place) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _git_works(repository: Path) -> bool:
    top = repository.parent if repository.name == ".git" else repository
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if not (process / "comm").read_text().startswith("git"):
                continue
            where, words = (process / "cwd").readlink(), (process / "cmdline").read_bytes()
        except OSError:
            continue
        if where.is_relative_to(top) or os.fsencode(repository) in words:
            return True
    return False
