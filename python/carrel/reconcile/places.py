"""Tenants' directories in the state: made, looked at, put right, and taken away. It blocks: run it in a thread."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol
from uuid import uuid4

from carrel.errors import CarrelError, Conflict
from carrel.ids import TenantId
from carrel.plan.drift import MODE, Drift, Seen
from carrel.tenancy.paths import TENANT_DIRECTORIES, make_tenant_directory

_GOING: Final = ".deleting-"
_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")


class Hands(Protocol):
    """What reconciling does to a tenant's directory. Each may be done again to the same end, and raises CarrelError."""

    def make(self, tenant: TenantId) -> None:
        """Have the directory."""
        ...

    def look(self, tenant: TenantId) -> Seen:
        """What is there now."""
        ...

    def mend(self, tenant: TenantId, drift: Drift) -> None:
        """Put one difference right."""
        ...

    def take(self, tenant: TenantId) -> Path | None:
        """Take the directory away in one step; where it is now, to be removed. None where there is none."""
        ...


class Places:
    """The directories beneath ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def make(self, tenant: TenantId) -> None:
        """Have the directory, mode 0700."""
        path = self._home / tenant
        make_tenant_directory(path)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise Conflict(f"tenants/{tenant} in the state directory is no directory: move it away.")

    def look(self, tenant: TenantId) -> Seen:
        """What is at the tenant's name; nothing is followed. Parts are missing only where some are there."""
        path = f"{self._home}/{tenant}"
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return Seen(None)
        if not stat.S_ISDIR(found.st_mode):
            return Seen(found.st_mode, found.st_uid)
        acl = any(_has(path, name) for name in _ACLS)
        missing: tuple[str, ...] = ()
        with contextlib.suppress(OSError):
            names = set(os.listdir(path))
            if names.intersection(TENANT_DIRECTORIES):
                missing = tuple(part for part in TENANT_DIRECTORIES if part not in names)
        return Seen(found.st_mode, found.st_uid, acl, missing)

    def mend(self, tenant: TenantId, drift: Drift) -> None:
        """Put right what `plan.drift` calls mendable of a directory."""
        try:
            if drift.kind == "directory_missing":
                self.make(tenant)
                return
            fd = os.open(self._home / tenant, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                match drift.kind:
                    case "directory_mode":
                        os.fchmod(fd, MODE)
                    case "directory_acl":
                        _drop_acl(fd)
                    case "part_missing":
                        os.mkdir(drift.path.rpartition("/")[2], MODE, dir_fd=fd)
                    case _:
                        return
            finally:
                os.close(fd)
        except OSError as error:
            raise CarrelError(f"{drift.path} cannot be put right: {error.strerror}.") from error

    def take(self, tenant: TenantId) -> Path | None:
        """Rename the directory out of the way; where it is now."""
        for name in (f".{tenant}.before", f".{tenant}.restore"):
            # What a restore put aside.
            with contextlib.suppress(FileNotFoundError):
                (self._home / name).rename(self._home / f"{_GOING}{tenant}-{uuid4().hex}")
        going = self._home / f"{_GOING}{tenant}-{uuid4().hex}"
        try:
            (self._home / tenant).rename(going)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CarrelError(f"tenants/{tenant} cannot be taken away: {error.strerror}.") from error
        return going

    def left(self) -> list[Path]:
        """What deletions left that were cut off, or could not remove all."""
        return [self._home / name for name in os.listdir(self._home) if name.startswith(_GOING)]

    def stats(self) -> Iterator[tuple[str, os.stat_result]]:
        """Names and (not followed) stats of all that is there, in one go."""
        with os.scandir(self._home) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue


def _has(path: str, attribute: str) -> bool:
    try:
        os.getxattr(path, attribute, follow_symlinks=False)
    except OSError:
        return False
    return True


def _drop_acl(fd: int) -> None:
    for name in _ACLS:
        try:
            os.removexattr(fd, name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
