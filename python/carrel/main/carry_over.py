"""What a tenant's directory takes along when another, of an earlier time, comes into its place.

A restore brings back what was said and made. It does not take back what was charged, nor give back what was taken
away: a token that was revoked, a device that was sent off, a grant that ended, an account that was disconnected.
Blocks; while the tenant rests.
"""

from pathlib import Path
from typing import Final

from carrel.backup.contents import paths
from carrel.connections.shelf import PLACE
from carrel.errors import NotFound
from carrel.ids import TenantId
from carrel.metering.ledger import NAME
from carrel.metering.union import remove_ledger, unite
from carrel.tenancy.paths import TenantRoot

FILES: Final = tuple(path for path in paths(own="stays") if "*" not in path)
"""What says who may do what. Where there is none, the restored one counts."""
_MOST: Final = 16 << 20
_LEDGER: Final = f"usage/{NAME}"


def carry_over(live: Path, fresh: Path, tenant: TenantId, *, own: bool = True) -> None:
    """Make ``fresh``, about to replace ``live``, go on from it. ``own``: it is this tenant's; else its bill is not."""
    if not own:
        remove_ledger(fresh / _LEDGER)
    if (live / _LEDGER).is_file():
        (fresh / _LEDGER).parent.mkdir(mode=0o700, exist_ok=True)
        unite(live / _LEDGER, fresh / _LEDGER, tenant)
    if live.is_dir():
        _files(live, fresh)


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
