"""Takes a restored tree into the place of the live directory in one step, and keeps what was there until confirmed.

All of it is beside the tenant's directory: `.TENANT.restore` is being laid out, `.TENANT.before` is what was there.
"""

import ctypes
import os
from pathlib import Path
from typing import Final

from carrel.backup.staging import remove_tree
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.ids import TenantId, parse_tenant_id

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100
_libc = ctypes.CDLL(None, use_errno=True)


def staged(home: Path, tenant: TenantId) -> Path:
    """Where a restore is laid out."""
    return home / f".{tenant}.restore"


def before(home: Path, tenant: TenantId) -> Path:
    """Where what was there is kept."""
    return home / f".{tenant}.before"


def require_none_waiting(home: Path, tenant: TenantId) -> None:
    """Raise Conflict where a restore was made and neither confirmed nor undone."""
    if before(home, tenant).exists():
        raise Conflict(
            f"What {tenant} was before its last restore is still kept: `carrel tenants restore {tenant} --confirm` "
            "lets it go, `--undo` brings it back."
        )


def is_empty(home: Path, tenant: TenantId) -> bool:
    """Whether the tenant has nothing: no directory, or none with a file in it."""
    top = home / tenant
    return not top.is_dir() or not any(files for _, _, files in os.walk(top))


def swap_in(home: Path, tenant: TenantId) -> bool:
    """Put what is staged in the live directory's place; whether something was there, which is kept."""
    live, fresh, old = home / tenant, staged(home, tenant), before(home, tenant)
    require_none_waiting(home, tenant)
    if is_empty(home, tenant):
        # Only directories that were made at the first look; nothing of anybody's.
        remove_tree(live)
        _rename(fresh, live, _RENAME_NOREPLACE)
        _sync(home)
        return False
    # It has its last name before the exchange: killed in between, the tenant is as it was, and nothing is lost.
    _rename(fresh, old, _RENAME_NOREPLACE)
    _rename(old, live, _RENAME_EXCHANGE)
    _sync(home)
    return True


def undo(home: Path, tenant: TenantId) -> None:
    """Bring back what was there, and take away what was restored. Raises NotFound."""
    live, old = home / tenant, before(home, tenant)
    if not old.is_dir():
        raise NotFound(f"There is nothing kept of {tenant} from before a restore.")
    _rename(old, live, _RENAME_EXCHANGE)
    _sync(home)
    remove_tree(old)


def confirm(home: Path, tenant: TenantId) -> None:
    """Let what was there go. Raises NotFound."""
    old = before(home, tenant)
    if not old.is_dir():
        raise NotFound(f"There is nothing kept of {tenant} from before a restore.")
    remove_tree(old)
    _sync(home)


def clear_staged(home: Path) -> None:
    """Take away what killed restores left. Before anything runs."""
    if not home.is_dir():
        return
    for name in os.listdir(home):
        if name.startswith(".") and name.endswith(".restore"):
            try:
                tenant = parse_tenant_id(name[1:].removesuffix(".restore"))
            except CarrelError:
                continue
            remove_tree(staged(home, tenant))


def _rename(source: Path, target: Path, flags: int) -> None:
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        raise CarrelError(f"The restored directory could not be put in its place: {os.strerror(number)}.")


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
