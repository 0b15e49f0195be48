"""What was built, kept under ``envs/``: a record of it, the root that holds it in the store, one directory to bind.

``KEY.json`` is written last, so that what a crash cut short has none and is made anew. Nothing here runs Nix: a closure
that was built once is found again where Nix is gone.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.errors import StorageFull
from carrel.packages import farm, profile
from carrel.packages.protocol import BuildFailed, PackageError
from carrel.tenancy.userland import Mount, Userland

STORE: Final = "/nix/store"
PROFILE: Final = "/nix/profile"
"""Where an environment that no Nix put together has its programs, inside."""
STORE_PATH: Final = re.compile(r"/nix/store/[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+._?=-]+")
MANY_BINDS: Final = 50
_VARIABLE: Final = re.compile(r"([A-Z][A-Z0-9_]*)=(/nix/store/[!-~]+)")
_KEPT: Final = re.compile(r"\.?([0-9a-f]{20})(\.json|\.root|\.plan|\.farm|\.profile)?")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """An environment as it was made: the store paths that it needs, and the variables that its programs want.

    ``environment`` is the store path that has its programs in ``bin``; where it is None, ``packages`` (store paths, the
    first one's files before the others') are linked into a profile.
    """

    closure: tuple[str, ...]
    variables: Mapping[str, str]
    environment: str | None = None
    packages: tuple[str, ...] = ()


class _Record(BaseModel):
    """What is known of a built environment, as ``envs/KEY.json`` holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    packages: tuple[str, ...]
    environment: str
    closure: tuple[str, ...]
    variables: dict[str, str]
    farm: bool


class Closures:
    """The environments in ``envs``. ``physical`` says where a path of the store really is. All of it blocks.

    ``copies`` allows to copy what cannot be linked; without it each path is a mount of its own then.
    """

    def __init__(self, envs: Path, physical: Callable[[str], Path], *, copies: bool = True) -> None:
        self._envs = envs
        self._physical = physical
        self._copies = copies

    def root(self, key: str) -> Path:
        """Where Nix makes the link that keeps the environment ``key`` from its garbage collector."""
        return self._envs / f"{key}.root"

    def plan(self, key: str) -> Path:
        """Where Nix makes the link to the derivation of the environment ``key`` while that is built."""
        return self._envs / f"{key}.plan"

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
        if record.environment == PROFILE:
            there = there and self._profile(key).is_dir()
        return self._userland(key, record) if there else None

    def missing(self, closure: Collection[str]) -> tuple[str, ...]:
        """Those of ``closure`` that the store does not have."""
        return tuple(path for path in closure if not os.path.lexists(self._physical(path)))

    def keep(self, key: str, names: tuple[str, ...], made: Made) -> Userland:
        """Record what was made. Raises BuildFailed or StorageFull where it cannot be kept."""
        try:
            return self._keep(key, names, made)
        except OSError as error:
            raise _cannot_be_kept(error) from error

    def described(self, environment: str) -> Made:
        """What Nix built at ``environment``. Raises PackageError where that is not an environment of ours."""
        support = self._physical(environment) / "nix-support"
        try:
            closure = tuple(sorted(set((support / "closure").read_text(encoding="utf-8").split())))
            lines = (support / "environment").read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise _cannot_be_kept(error) from error
        if environment not in closure or not all(STORE_PATH.fullmatch(path) for path in closure):
            raise PackageError("The environment does not say what it is made of: its expression is at fault.")
        variables = {}
        for line in lines:
            found = _VARIABLE.fullmatch(line)
            if found is None:
                raise PackageError(f"The environment sets what it may not: {line[:100]!r}.")
            variables[found[1]] = found[2]
        return Made(closure, variables, environment)

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
                farm.remove(path)
            removed = True
        return removed

    def _keep(self, key: str, names: tuple[str, ...], made: Made) -> Userland:
        one = self._make_farm(key, made.closure)
        if not one and len(made.closure) > MANY_BINDS:
            _log.warning("an environment is bound path by path, which starts slowly", paths=len(made.closure))
        if made.environment is None:
            staged = self._fresh(f".{key}.profile")
            profile.make(staged, made.packages, self._physical)
            staged.rename(self._fresh(self._profile(key).name))
        record = _Record(
            packages=names, environment=made.environment or PROFILE, closure=made.closure,
            variables=dict(made.variables), farm=one,
        )  # fmt: skip
        draft = self._envs / f".{key}.json"
        with draft.open("w", encoding="utf-8") as file:
            file.write(record.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._envs / f"{key}.json")
        return self._userland(key, record)

    def _make_farm(self, key: str, closure: tuple[str, ...]) -> bool:
        others = [self._envs / file.stem for file in self._envs.glob("*.json") if file.stem != key]
        staged, place = self._fresh(f".{key}.farm"), self._fresh(key)
        paths = ((_name(path), self._physical(path)) for path in closure)
        try:
            if not farm.make(staged, paths, others, copies=self._copies):
                return False
        except OSError:
            farm.remove(staged)
            raise
        staged.rename(place)
        return True

    def _fresh(self, name: str) -> Path:
        """A name in ``envs`` with nothing at it any more."""
        path = self._envs / name
        farm.remove(path)
        return path

    def _profile(self, key: str) -> Path:
        return self._envs / f"{key}.profile"

    def _userland(self, key: str, record: _Record) -> Userland:
        if record.farm:
            mounts: tuple[Mount, ...] = (Mount(str(self._envs / key), STORE),)
        else:
            mounts = tuple(Mount(str(self._physical(path)), path) for path in record.closure)
        if record.environment == PROFILE:
            mounts = (*mounts, Mount(str(self._profile(key)), PROFILE))
        programs = f"{record.environment}/bin"
        return Userland(
            "closure", key, mounts, programs, f"{programs}/bash",
            links=((f"{programs}/sh", "/bin/sh"), (f"{programs}/env", "/usr/bin/env")),
            env=tuple(sorted(record.variables.items())),
        )  # fmt: skip


def _name(path: str) -> str:
    return path[len(STORE) + 1 :]


def _cannot_be_kept(error: OSError) -> BuildFailed | StorageFull:
    if error.errno in _FULL:
        return StorageFull("The disk is full: the environment cannot be kept.")
    return BuildFailed(f"The environment cannot be kept: {error.strerror}.")
