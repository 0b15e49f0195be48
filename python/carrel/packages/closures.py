"""What was built, kept under ``envs/``: a record of it, the root that holds it in the store, one directory to bind.

``KEY.json`` is written last, so that what a crash cut short has none and is made anew. Nothing here runs Nix: a closure
that was built once is found again where Nix is gone.
"""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.errors import StorageFull
from carrel.packages.protocol import BuildFailed, PackageError
from carrel.tenancy.userland import Mount, Userland

STORE: Final = "/nix/store"
STORE_PATH: Final = re.compile(r"/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]+")
MANY_BINDS: Final = 50
_VARIABLE: Final = re.compile(r"([A-Z][A-Z0-9_]*)=(/nix/store/[!-~]+)")
_KEPT: Final = re.compile(r"\.?([0-9a-f]{20})(\.json|\.root|\.farm)?")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_CANNOT_LINK: Final = (errno.EPERM, errno.EXDEV, errno.EMLINK)
_log = structlog.get_logger(__name__)


class _Record(BaseModel):
    """What is known of a built environment, as ``envs/KEY.json`` holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    packages: tuple[str, ...]
    environment: str
    closure: tuple[str, ...]
    variables: dict[str, str]
    farm: bool


class Closures:
    """The environments in ``envs``. ``physical`` says where a path of the store really is. All of it blocks."""

    def __init__(self, envs: Path, physical: Callable[[str], Path]) -> None:
        self._envs = envs
        self._physical = physical

    def root(self, key: str) -> Path:
        """Where Nix makes the link that keeps the environment ``key`` from its garbage collector."""
        return self._envs / f"{key}.root"

    def found(self, key: str) -> Userland | None:
        """The userland ``key`` where all of it is still there; it counts as used now."""
        file = self._envs / f"{key}.json"
        try:
            os.utime(file)
            record = _Record.model_validate_json(file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        if record.farm:
            there = all((self._envs / key / _name(path)).exists() for path in record.closure)
        else:
            there = all(self._physical(path).exists() for path in record.closure)
        return self._userland(key, record) if there else None

    def keep(self, key: str, names: tuple[str, ...], environment: str) -> Userland:
        """Record what Nix built at ``environment``. Raises PackageError where that is not an environment of ours."""
        try:
            return self._keep(key, names, environment)
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull("The disk is full: the environment cannot be kept.") from error
            raise BuildFailed(f"The environment cannot be kept: {error.strerror}.") from error

    def prune(self, keys: Collection[str], before: datetime) -> bool:
        """Remove every other environment that was last used ``before``, and what was cut short; True where any was."""
        kept: dict[str, list[Path]] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in self._envs.iterdir():
                found = _KEPT.fullmatch(path.name)
                if found is not None:
                    kept.setdefault(found[1], []).append(path)
        removed = False
        for key, paths in kept.items():
            if key in keys or max(path.lstat().st_mtime for path in paths) >= before.timestamp():
                continue
            # The record goes first: without it nobody finds what is half removed.
            for path in sorted(paths, key=lambda path: path.suffix != ".json"):
                remove(path)
            removed = True
        return removed

    def _keep(self, key: str, names: tuple[str, ...], environment: str) -> Userland:
        support = self._physical(environment) / "nix-support"
        closure = tuple(sorted(set((support / "closure").read_text(encoding="utf-8").split())))
        if environment not in closure or not all(STORE_PATH.fullmatch(path) for path in closure):
            raise PackageError("The environment does not say what it is made of: its expression is at fault.")
        variables = {}
        for line in (support / "environment").read_text(encoding="utf-8").splitlines():
            found = _VARIABLE.fullmatch(line)
            if found is None:
                raise PackageError(f"The environment sets what it may not: {line[:100]!r}.")
            variables[found[1]] = found[2]
        farm = self._make_farm(key, closure)
        if not farm and len(closure) > MANY_BINDS:
            _log.warning("an environment is bound path by path, which starts slowly", paths=len(closure))
        record = _Record(packages=names, environment=environment, closure=closure, variables=variables, farm=farm)
        staged = self._envs / f".{key}.json"
        with staged.open("w", encoding="utf-8") as file:
            file.write(record.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        staged.rename(self._envs / f"{key}.json")
        return self._userland(key, record)

    def _make_farm(self, key: str, closure: tuple[str, ...]) -> bool:
        """One directory with the closure's paths, by hard links: bound at once however many they are.

        False where the store's files cannot be linked: they are another's, or on another file system.
        """
        staged, farm = self._envs / f".{key}.farm", self._envs / key
        for old in (staged, farm):
            remove(old)
        staged.mkdir(mode=0o755)
        try:
            for path in closure:
                _link_tree(self._physical(path), staged / _name(path))
        except OSError as error:
            remove(staged)
            if error.errno in _CANNOT_LINK:
                return False
            raise
        staged.rename(farm)
        return True

    def _userland(self, key: str, record: _Record) -> Userland:
        if record.farm:
            mounts: tuple[Mount, ...] = (Mount(str(self._envs / key), STORE),)
        else:
            mounts = tuple(Mount(str(self._physical(path)), path) for path in record.closure)
        programs = f"{record.environment}/bin"
        return Userland(
            "closure", key, mounts, programs, f"{programs}/bash",
            links=((f"{programs}/sh", "/bin/sh"), (f"{programs}/env", "/usr/bin/env")),
            env=tuple(sorted(record.variables.items())),
        )  # fmt: skip


def _name(path: str) -> str:
    return path[len(STORE) + 1 :]


def _link_tree(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if not source.is_dir():
        target.hardlink_to(source)
        return
    target.mkdir(mode=0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            _link_tree(Path(entry.path), target / entry.name)
    target.chmod(0o555)


def remove(path: Path) -> None:
    """Remove a file, a link, or a tree whose directories may be read-only."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    for at, directories, _ in os.walk(path):
        for name in directories:
            inner = Path(at) / name
            if not inner.is_symlink():
                inner.chmod(0o755)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
