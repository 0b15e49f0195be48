"""Snapshots of a workspace: whole copies beside it, beneath the tenant's root, and the way back to one.

A copy is made under a temporary name and given its own when it is whole, so that a kill at any moment leaves no half of
one. Going back exchanges the workspace for a copy of the snapshot in one step, and keeps what was there as a snapshot.
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from carrel.clock import Clock
from carrel.errors import CarrelError, NotFound, StorageFull
from carrel.sandbox.tree import copy_tree
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

PLACE: Final = "snapshots"
FILES: Final = "files"
FACTS: Final = "snapshot.json"
_HALF: Final = ".making-"
_RENAME_EXCHANGE: Final = 2
_MOST_FACTS: Final = 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)

Removes = Callable[[TenantRoot, str], None]
"""Removes a directory beneath a root with all that hostile programs may have left in it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One copy. ``workspace`` is the directory that it is of; ``left_out`` counts what could not be copied."""

    id: str
    workspace: str
    label: str
    made: str
    files: int
    bytes: int
    left_out: int


class Snapshots:
    """All tenants'. Every method blocks: call it in a thread. ``removes`` is how a tree of strangers' is removed."""

    def __init__(self, *, clock: Clock, removes: Removes) -> None:
        self._clock = clock
        self._removes = removes

    def make(
        self, tenant: Tenant, workspace: str, *, label: str = "", keep: int, most_bytes: int,
        going: Callable[[], bool] = lambda: True,
    ) -> Snapshot:  # fmt: skip
        """Copy ``workspace``; the oldest of it beyond ``keep`` go. Raises NotFound, TooLarge, StorageFull."""
        snapshot_id = _new_id(self._clock.now())
        half = f"{PLACE}/{_HALF}{snapshot_id}"
        source = tenant.root.directory(workspace)
        try:
            target = tenant.root.directory(f"{half}/{FILES}", create=True)
            try:
                copied = copy_tree(source.fd, target.fd, most_bytes=most_bytes, going=going)
            finally:
                target.close()
            made = self._clock.now().isoformat()
            snapshot = Snapshot(
                snapshot_id, workspace, label[:200], made, copied.files, copied.bytes, copied.left_out
            )  # fmt: skip
            self._name(tenant, half, snapshot)
        except BaseException as error:
            with contextlib.suppress(CarrelError, OSError):
                self._removes(tenant.root, half)
            if isinstance(error, OSError):
                raise StorageFull(f"The workspace could not be copied: {error.strerror}.") from error
            raise
        finally:
            source.close()
        for old in self.list(tenant, workspace)[:-keep]:
            self.remove(tenant, old.id)
        return snapshot

    def list(self, tenant: Tenant, workspace: str | None = None) -> list[Snapshot]:
        """Those that there are, oldest first; halves of a start that was killed are removed on the way."""
        try:
            names = sorted(name for name, _ in tenant.root.entries(PLACE))
        except NotFound:
            return []
        found = []
        for name in names:
            if name.startswith(_HALF):
                continue
            with contextlib.suppress(CarrelError, ValueError, TypeError, KeyError):
                facts = json.loads(tenant.root.read(f"{PLACE}/{name}/{FACTS}", limit=_MOST_FACTS))
                snapshot = Snapshot(**facts)
                if snapshot.id == name and workspace in (None, snapshot.workspace):
                    found.append(snapshot)
        return found

    def tidy(self, tenant: Tenant) -> None:
        """Remove what a kill left half made."""
        with contextlib.suppress(NotFound):
            for name, _ in list(tenant.root.entries(PLACE)):
                if name.startswith(_HALF):
                    self._removes(tenant.root, f"{PLACE}/{name}")

    def remove(self, tenant: Tenant, snapshot_id: str) -> None:
        """Forget one; raises NotFound."""
        self._of(tenant, snapshot_id)
        self._removes(tenant.root, f"{PLACE}/{snapshot_id}")

    def roll_back(self, tenant: Tenant, snapshot_id: str, *, keep: int, most_bytes: int) -> tuple[Snapshot, Snapshot]:
        """Put a copy of a snapshot in its workspace's place; it, and the snapshot of what was there before."""
        chosen = self._of(tenant, snapshot_id)
        kept_id = _new_id(self._clock.now())
        half = f"{PLACE}/{_HALF}{kept_id}"
        source = tenant.root.directory(f"{PLACE}/{snapshot_id}/{FILES}")
        try:
            target = tenant.root.directory(f"{half}/{FILES}", create=True)
            try:
                copy_tree(source.fd, target.fd, most_bytes=max(most_bytes, 2 * chosen.bytes + (1 << 20)))
                os.fchmod(target.fd, 0o700)
            finally:
                target.close()
            tenant.root.directory(chosen.workspace, create=True).close()
            _exchange(tenant.root, f"{half}/{FILES}", chosen.workspace)
        except BaseException:
            with contextlib.suppress(CarrelError, OSError):
                self._removes(tenant.root, half)
            raise
        finally:
            source.close()
        # From here on the workspace is the snapshot's; what was there is in the half, and is given its name.
        before = Snapshot(
            kept_id, chosen.workspace, f"before going back to {snapshot_id}", self._clock.now().isoformat(), 0, 0, 0
        )
        self._name(tenant, half, before)
        for old in self.list(tenant, chosen.workspace)[:-keep]:
            if old.id not in (kept_id, snapshot_id):
                self.remove(tenant, old.id)
        return chosen, before

    def _of(self, tenant: Tenant, snapshot_id: str) -> Snapshot:
        found = next((one for one in self.list(tenant) if one.id == snapshot_id), None)
        if found is None:
            raise NotFound("There is no such snapshot.")
        return found

    def _name(self, tenant: Tenant, half: str, snapshot: Snapshot) -> None:
        tenant.root.replace(f"{half}/{FACTS}", json.dumps(asdict(snapshot)).encode())
        place = tenant.root.directory(PLACE)
        try:
            os.rename(half.rpartition("/")[2], snapshot.id, src_dir_fd=place.fd, dst_dir_fd=place.fd)
            os.fsync(place.fd)
        finally:
            place.close()


def _new_id(now: datetime) -> str:
    """An id whose order is that of time."""
    return f"{now:%Y%m%dT%H%M%S%f}-{uuid4().hex[:6]}"


def _exchange(root: TenantRoot, one: str, other: str) -> None:
    """Let two directories take each other's place, in one step."""
    ends = []
    for path in (one, other):
        parent, _, name = path.rpartition("/")
        ends.append((root.directory(parent or "."), name.encode()))
    (a, a_name), (b, b_name) = ends
    try:
        if _libc.renameat2(a.fd, a_name, b.fd, b_name, _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        os.fsync(a.fd)
        os.fsync(b.fd)
    finally:
        a.close()
        b.close()
