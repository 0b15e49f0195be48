"""Takes a restored tree into the place of the live directory in one step, and keeps what was there until confirmed.

All of it is beside the tenant's directory: `.TENANT.restore` is being laid out, `.TENANT.before` is what was there.
While two directories change places, the one beside is `.TENANT.INODE.swap` (a restore) or `.TENANT.INODE.undo`, by the
number that it had before: so whoever comes after a kill knows whether the exchange was made, and which is which.

What no backup holds and no restore brings back, `contents.GOES_ON`, goes on in the live directory: after each exchange
it is taken out of the one that it was in. Until then it is in that one, whole, and whoever comes after a kill does it.
"""

import ctypes
import os
import re
from pathlib import Path
from typing import Final

from carrel.backup.contents import GOES_ON
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.ids import TenantId, parse_tenant_id
from carrel.tenancy.removal import remove_tree

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100
_HALFWAY: Final = re.compile(r"\.(?P<tenant>[^.]+)\.(?P<inode>[0-9]+)\.(?P<what>swap|undo)")
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


def snapshots(home: Path, tenant: TenantId) -> int:
    """How many copies of its workspaces a tenant has, which stay whatever is brought back."""
    try:
        return sum(not name.startswith(".") for name in os.listdir(home / tenant / "snapshots"))
    except FileNotFoundError:
        return 0


def is_empty(home: Path, tenant: TenantId) -> bool:
    """Whether the tenant has nothing: no directory, or none with a file in it."""
    top = home / tenant
    return not top.is_dir() or not any(files for _, _, files in os.walk(top))


def swap_in(home: Path, tenant: TenantId) -> bool:
    """Put what is staged in the live directory's place; whether something was there, which is kept."""
    live, fresh = home / tenant, staged(home, tenant)
    require_none_waiting(home, tenant)
    if is_empty(home, tenant):
        # Only directories that were made at the first look; nothing of anybody's.
        remove_tree(live)
        _rename(fresh, live, _RENAME_NOREPLACE)
        _sync(home)
        return False
    _rename(_exchange(home, tenant, fresh, "swap"), before(home, tenant), _RENAME_NOREPLACE)
    _sync(home)
    _go_on(before(home, tenant), live)
    return True


def undo(home: Path, tenant: TenantId) -> None:
    """Bring back what was there, and take away what was restored. Raises NotFound."""
    _require_kept(home, tenant)
    undone = _exchange(home, tenant, before(home, tenant), "undo")
    _go_on(undone, home / tenant)
    remove_tree(undone)


def confirm(home: Path, tenant: TenantId) -> None:
    """Let what was there go. Raises NotFound."""
    old = _require_kept(home, tenant)
    _go_on(old, home / tenant)
    # Half of it is nothing to come back to: it has no name for that from here on.
    remove_tree(staged(home, tenant))
    _rename(old, staged(home, tenant), _RENAME_NOREPLACE)
    _sync(home)
    remove_tree(staged(home, tenant))


def clear_staged(home: Path) -> list[str]:
    """Take away what killed restores left, and end what they were in the middle of. Before anything runs.

    What cannot be taken away stays, and is told: it is in the way of that tenant's next restore, and of nothing else.
    """
    told: list[str] = []
    if not home.is_dir():
        return told
    for name in os.listdir(home):
        halfway = _HALFWAY.fullmatch(name)
        kept = name.endswith(".before")
        whose = halfway["tenant"] if halfway else name[1:].removesuffix(".before" if kept else ".restore")
        if not halfway and not (name.startswith(".") and name.endswith((".restore", ".before"))):
            continue
        try:
            tenant = parse_tenant_id(whose)
        except CarrelError:
            continue
        try:
            if halfway:
                _settle(home, tenant, home / name, halfway)
            elif not kept:
                remove_tree(home / name)
            elif (home / tenant).is_dir():
                _go_on(home / name, home / tenant)
        except (CarrelError, OSError) as error:
            why = error.message if isinstance(error, CarrelError) else f"{error.strerror}."
            told.append(
                f"Not all of {home / name} that goes on is in {home / tenant}: {why} The next start tries it again."
                if kept
                else f"{home / name}, which a restore of {tenant} left, is in the way of its next one: {why} "
                "Remove it by hand."
            )
    return told


def _settle(home: Path, tenant: TenantId, beside: Path, halfway: re.Match[str]) -> None:
    exchanged = beside.stat().st_ino != int(halfway["inode"])
    if exchanged == (halfway["what"] == "swap"):
        # What was there before a restore: the restore was made, or its undoing was not.
        _rename(beside, before(home, tenant), _RENAME_NOREPLACE)
        _sync(home)
        _go_on(before(home, tenant), home / tenant)
    else:
        _go_on(beside, home / tenant)
        remove_tree(beside)


def _go_on(source: Path, live: Path) -> None:
    """Move what goes on from ``source`` to ``live``, name by name where there is some of it already."""
    for name in GOES_ON:
        if not (source / name).is_dir():
            continue
        (live / name).mkdir(mode=0o700, exist_ok=True)
        for one in sorted(os.listdir(source / name)):
            if not (live / name / one).exists():
                _rename(source / name / one, live / name / one, _RENAME_NOREPLACE)
        _sync(live / name)
        _sync(source / name)


def _require_kept(home: Path, tenant: TenantId) -> Path:
    old = before(home, tenant)
    if not old.is_dir():
        raise NotFound(f"There is nothing kept of {tenant} from before a restore.")
    return old


def _exchange(home: Path, tenant: TenantId, source: Path, what: str) -> Path:
    """Put ``source`` in the live directory's place; where what was there is now. Where it fails all is as it was."""
    beside = home / f".{tenant}.{source.stat().st_ino}.{what}"
    _rename(source, beside, _RENAME_NOREPLACE)
    try:
        _sync(home)
        _rename(beside, home / tenant, _RENAME_EXCHANGE)
    except BaseException:
        _rename(beside, source, _RENAME_NOREPLACE)
        raise
    _sync(home)
    return beside


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
