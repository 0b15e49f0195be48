"""What a tenant's directory takes along when another, of an earlier time, comes into its place.

A restore brings back what was said and made. It does not take back what was charged, nor give back what was taken
away: a token that was revoked, a device that was sent off, a grant that ended, an account that was disconnected.
Blocks; while the tenant rests.
"""

import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

from carrel.backup.contents import paths
from carrel.connections.shelf import PLACE
from carrel.errors import NotFound
from carrel.ids import TenantId
from carrel.metering.ledger import NAME
from carrel.metering.union import DAMAGED, remove_ledger, unite
from carrel.tenancy.paths import TenantRoot
from carrel.tenancy.removal import remove_tree

FILES: Final = tuple(path for path in paths(own="stays") if "*" not in path)
"""What says who may do what. Where there is none, the restored one counts."""
_MOST: Final = 16 << 20
_LEDGER: Final = f"usage/{NAME}"
_PUT_BY: Final = f"usage/{DAMAGED}"


def carry_over(live: Path, fresh: Path, tenant: TenantId, *, own: bool = True) -> tuple[str, ...]:
    """Make ``fresh``, about to replace ``live``, go on from it. ``own``: it is this tenant's; else its bill is not.

    Gives the paths in ``fresh`` of damaged ledgers of either, which are kept there as they were.
    """
    put_by: tuple[str, ...] = ()
    if not own:
        remove_ledger(fresh / _LEDGER)
        remove_tree(fresh / _PUT_BY)
    if (live / _LEDGER).is_file():
        (fresh / _LEDGER).parent.mkdir(mode=0o700, exist_ok=True)
        put_by = unite(live / _LEDGER, fresh / _LEDGER, tenant).put_by
    if live.is_dir():
        _files(live, fresh)
    return tuple(f"usage/{name}" for name in put_by)


def _files(live: Path, fresh: Path) -> None:
    there = TenantRoot.open(live)
    try:
        here = TenantRoot.open(fresh)
        try:
            for name in FILES:
                try:
                    data = there.read(name, limit=_MOST)
                except NotFound:
                    continue
                here.replace(name, data)
            _connections(there, here)
            _put_by(there, here)
        finally:
            here.close()
    finally:
        there.close()


def _connections(there: TenantRoot, here: TenantRoot) -> None:
    """Those that are there take the place of all: what a vendor gave for one that is older is good no more."""
    try:
        live = [name for name, _ in there.entries(PLACE)]
    except NotFound:
        return
    try:
        old = [name for name, _ in here.entries(PLACE)]
    except NotFound:
        old = []
    for name in old:
        here.remove(f"{PLACE}/{name}")
    for name in live:
        here.replace(f"{PLACE}/{name}", there.read(f"{PLACE}/{name}", limit=_MOST))


def _put_by(there: TenantRoot, here: TenantRoot) -> None:
    """Damaged ledgers that were kept before, whose names say what is in them."""
    try:
        names = sorted(name for name, _ in there.entries(_PUT_BY))
    except NotFound:
        return
    with closing(here.directory(_PUT_BY, create=True)) as place:
        known = set(os.listdir(place.fd))
    for name in names:
        if name not in known and not name.startswith("."):
            _copy(there, here, f"{_PUT_BY}/{name}")


def _copy(there: TenantRoot, here: TenantRoot, path: str) -> None:
    parent, _, name = path.rpartition("/")
    half = f"{parent}/.{name}"
    with (
        os.fdopen(there.open_file(path), "rb") as source,
        os.fdopen(here.open_file(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
    with closing(here.directory(parent)) as place:
        os.rename(f".{name}", name, src_dir_fd=place.fd, dst_dir_fd=place.fd)
        os.fsync(place.fd)
