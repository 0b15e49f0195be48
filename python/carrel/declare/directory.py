"""The files of tenants.d: which count, whether they changed, and their bytes, opened without following a link."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from carrel.declare.problems import nearest
from carrel.errors import CarrelError, InvalidRequest
from carrel.ids import TENANT_ID_PATTERN, TenantId, parse_tenant_id

GATEWAY: Final = "_gateway.yaml"
RATE_CARD: Final = "_rate-card.yaml"
PLANS: Final = "_plans.yaml"
ALLOWLISTS: Final = "_allowlists.yaml"
OPERATOR_FILES: Final = (GATEWAY, RATE_CARD, PLANS, ALLOWLISTS)
MAX_TENANT_BYTES: Final = 256 * 1024
MAX_OPERATOR_BYTES: Final = 1024 * 1024
_SETTLE_SECONDS: Final = 0.004
_TRIES: Final = 8

Signature = tuple[int, int, int, int, int]
"""What changes with a file: modified and changed times in ns, size, inode, kind."""


class Refused(Exception):
    """A file that is not read. The message says why and what to do."""


class DirectoryUnreadable(CarrelError):
    """The directory of declarations is not there or cannot be listed."""

    code = "declaration_unreadable"


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes with what they were read at."""

    data: bytes
    digest: str
    signature: Signature


def counts(name: str) -> bool:
    """Whether a file of this name is a declaration. Dotfiles and editors' temporary files are not."""
    return name.endswith((".yaml", ".yml")) and name[0] not in ".#"


def misnamed(name: str) -> str | None:
    """What is wrong with a declaration's name, None where it is a good one."""
    stem = name.rpartition(".")[0]
    if name.endswith(".yml"):
        return f"the file is not read: its name must end in .yaml, so rename it to {stem}.yaml"
    if name in OPERATOR_FILES:
        return None
    if name.startswith("_"):
        close = nearest(name, OPERATOR_FILES)
        return "no operator's file has this name" + (f"; did you mean {close}?" if close else "")
    if tenant_of(name) is None:
        return f"the file's name is no tenant id: {TENANT_ID_PATTERN} is wanted before .yaml"
    return None


@lru_cache(maxsize=1 << 15)
def tenant_of(name: str) -> TenantId | None:
    """The tenant that the file ``name`` declares, None where it declares none."""
    try:
        return parse_tenant_id(name.removesuffix(".yaml")) if name.endswith(".yaml") else None
    except InvalidRequest:
        return None


def scan(path: Path) -> Mapping[str, Signature]:
    """The declarations' names and signatures; raises DirectoryUnreadable."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DirectoryUnreadable(
            f"The directory of declarations, {path}, cannot be read: {error.strerror}."
        ) from error
    found: dict[str, Signature] = {}
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if counts(entry.name):
                    try:
                        found[entry.name] = signature_of(entry.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue
    finally:
        os.close(directory)
    return found


def signature_of(found: os.stat_result) -> Signature:
    """The signature in a stat."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, stat.S_IFMT(found.st_mode)


def read(path: Path, name: str) -> Content:
    """The bytes of the file ``name``, once it stands still; raises Refused, FileNotFoundError."""
    limit = MAX_OPERATOR_BYTES if name in OPERATOR_FILES else MAX_TENANT_BYTES
    for _ in range(_TRIES):
        fd = _open(f"{path}/{name}")
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise Refused("not a regular file: a declaration is a plain file")
            if before.st_size > limit:
                raise Refused(f"over {limit // 1024} KiB")
            age = time.time() - before.st_mtime
            if 0 <= age < _SETTLE_SECONDS:
                time.sleep(_SETTLE_SECONDS - age)
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(limit + 1)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if signature_of(before) == signature_of(after) and len(data) == after.st_size:
            return Content(data, hashlib.sha256(data).hexdigest(), signature_of(after))
    raise Refused("it keeps changing while it is read")


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Refused("a symbolic link: a declaration is a plain file") from None
        if error.errno == errno.ENXIO:
            raise Refused("not a regular file: a declaration is a plain file") from None
        raise Refused(f"it cannot be read: {error.strerror}") from error
