"""Snapshots of a workspace: whole copies beside it, beneath the tenant's root, and the way back to one.

A copy is made under a temporary name and given its own when it is whole, so that a kill at any moment leaves no half of
one. Going back exchanges the workspace for a copy of the snapshot in one step, and keeps what was there as a snapshot.
Those that a message makes of itself are counted apart from those that somebody asked for.
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final, Literal
from uuid import uuid4

from carrel.clock import Clock
from carrel.errors import CarrelError, DiskQuotaExceeded, NotFound, StorageFailed, StorageFull, TooLarge, lacking
from carrel.ids import TenantId
from carrel.sandbox.disk import Room, room_at
from carrel.sandbox.protocol import Measured
from carrel.sandbox.tree import Copied, Limits, copy_tree, state_of
from carrel.sandbox.usage import Moved, Use, walked
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

PLACE: Final = "snapshots"
FILES: Final = "files"
FACTS: Final = "snapshot.json"
CUT_SHORT: Final = "the workspace as it was, or is to be, from a way back that was cut short"
_HALF: Final = ".making-"
_RENAME_EXCHANGE: Final = 2
_MOST_FACTS: Final = 64 << 10
_libc = ctypes.CDLL(None, use_errno=True)

Removes = Callable[[TenantRoot, str], None]
"""Removes a directory beneath a root with all that hostile programs may have left in it."""


Why = Literal["asked", "before_turn", "rollback"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One copy. ``workspace`` is the directory that it is of; ``left_out`` counts what could not be copied.

    ``why`` it was made: somebody asked, a message was about to change something, or it is what a way back replaced.
    ``state`` is the digest of the workspace as it was copied, empty where it was not taken.
    """

    id: str
    workspace: str
    label: str
    made: str
    files: int
    bytes: int
    left_out: int
    why: Why = "asked"
    state: str = ""


class Snapshots:
    """All tenants'. Every method blocks: call it in a thread. ``removes`` is how a tree of strangers' is removed.

    ``measured`` is told, in that thread, what a tenant's snapshots take as one more is made.
    """

    def __init__(
        self, *, clock: Clock, removes: Removes, measured: Measured = lambda _tenant, _quota, _used: None
    ) -> None:  # fmt: skip
        self._measured = measured
        self._clock = clock
        self._removes = removes
        self._making: set[tuple[TenantId, str]] = set()

    def make(
        self, tenant: Tenant, workspace: str, limits: Limits, *, keep: int, label: str = "", why: Why = "asked",
        together: Room | None = None,
    ) -> Snapshot:  # fmt: skip
        """Copy ``workspace``; the oldest of it beyond ``keep`` that were made likewise go.

        ``together`` bounds what all that messages made take of one tenant; the newest stays. The oldest of those also
        make room for this one in the tenant's quota of snapshots. Raises NotFound, TooLarge, DiskQuotaExceeded,
        StorageFailed, StorageFull also where what is kept free of the disk would be needed.
        """
        most = tenant.config.quotas.count("snapshots_bytes").hard
        with self._half(tenant) as (snapshot_id, half):
            source = tenant.root.directory(workspace)
            try:
                limits = _within_the_disk(source.fd, _within_quota(limits, most))
                state = _state(source.fd, limits)
                copied = self._copied(tenant, source.fd, half, limits)
            except OSError as error:
                raise _not_made("the workspace was not copied", error) from error
            finally:
                source.close()
            snapshot = Snapshot(
                snapshot_id, workspace, label[:200], self._clock.now().isoformat(), copied.files, copied.bytes,
                copied.left_out, why, state,
            )  # fmt: skip
            if most is not None:
                self._require_room(tenant, copied.bytes, most)
            self._name(tenant, half, snapshot)
        self._keep(tenant, workspace, keep, automatic=why == "before_turn")
        self._make_room(tenant, most, but=snapshot.id)
        if together is not None:
            self._keep_within(tenant, together)
        if tenant.config.quotas.count("snapshots_bytes").soft is not None:
            self._measured(tenant, "snapshots_bytes", sum(one.bytes for one in self.list(tenant)))
        return snapshot

    def changed(self, tenant: Tenant, workspace: str, limits: Limits) -> bool:
        """Whether there is something in ``workspace`` that its newest snapshot does not have; raises TooLarge."""
        try:
            source = tenant.root.directory(workspace)
        except NotFound:
            return False
        try:
            with os.scandir(source.fd) as entries:
                if next(entries, None) is None:
                    return False
            made = self.list(tenant, workspace)
            return not made or not made[-1].state or made[-1].state != state_of(source.fd, limits)
        finally:
            source.close()

    def list(self, tenant: Tenant, workspace: str | None = None) -> list[Snapshot]:
        """Those that there are, oldest first."""
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
        """Remove what a kill left half made; what is being made now stays."""
        with contextlib.suppress(NotFound):
            for name, _ in list(tenant.root.entries(PLACE)):
                if name.startswith(_HALF) and (tenant.id, name) not in self._making:
                    self._removes(tenant.root, f"{PLACE}/{name}")

    def remove(self, tenant: Tenant, snapshot_id: str) -> None:
        """Forget one; raises NotFound."""
        self._of(tenant, snapshot_id)
        self._removes(tenant.root, f"{PLACE}/{snapshot_id}")

    def forget(self, tenant: Tenant, workspace: str) -> None:
        """Remove all of a workspace that is no more."""
        for one in self.list(tenant, workspace):
            self.remove(tenant, one.id)

    def roll_back(self, tenant: Tenant, snapshot_id: str, *, keep: int, most_bytes: int) -> tuple[Snapshot, Snapshot]:
        """Put a copy of a snapshot in its workspace's place; it, and the snapshot of what was there before.

        A kill at any moment leaves the workspace whole, as it was or as it is to be, and nothing of the other is lost.
        """
        chosen = self._of(tenant, snapshot_id)
        with self._half(tenant) as (kept_id, half):
            source = tenant.root.directory(f"{PLACE}/{snapshot_id}/{FILES}")
            try:
                limits = Limits(max(most_bytes, 2 * chosen.bytes + (1 << 20)))
                copied = self._copied(tenant, source.fd, half, limits)
            except OSError as error:
                raise _not_made("the snapshot was not copied", error) from error
            finally:
                source.close()
            tenant.root.directory(chosen.workspace, create=True).close()
            before = Snapshot(
                kept_id, chosen.workspace, f"{CUT_SHORT} to {snapshot_id}", self._clock.now().isoformat(),
                copied.files, copied.bytes, copied.left_out, "rollback",
            )  # fmt: skip
            # It has its name before the exchange: what was there until now is kept from its very first moment on.
            self._name(tenant, half, before)
        try:
            _exchange(tenant.root, f"{PLACE}/{kept_id}/{FILES}", chosen.workspace)
        except OSError as error:
            self.remove(tenant, kept_id)
            raise _not_made("the workspace was not exchanged", error) from error
        taken = self._taken(tenant, kept_id)
        before = replace(
            before, label=f"before going back to {snapshot_id}", files=taken.files, bytes=taken.bytes, left_out=0
        )
        tenant.root.replace(f"{PLACE}/{kept_id}/{FACTS}", json.dumps(asdict(before)).encode())
        self._keep(tenant, chosen.workspace, keep, automatic=False, but=snapshot_id)
        self._make_room(tenant, tenant.config.quotas.count("snapshots_bytes").hard, but=snapshot_id)
        return chosen, before

    @contextlib.contextmanager
    def _half(self, tenant: Tenant) -> Iterator[tuple[str, str]]:
        """An id, and the directory that what gets it is made in; that is removed where it does not get its name."""
        self.tidy(tenant)
        snapshot_id = _new_id(self._clock.now())
        name = f"{_HALF}{snapshot_id}"
        self._making.add((tenant.id, name))
        try:
            yield snapshot_id, f"{PLACE}/{name}"
        except BaseException:
            with contextlib.suppress(CarrelError, OSError):
                self._removes(tenant.root, f"{PLACE}/{name}")
            raise
        finally:
            self._making.discard((tenant.id, name))

    def _copied(self, tenant: Tenant, source: int, half: str, limits: Limits) -> Copied:
        target = tenant.root.directory(f"{half}/{FILES}", create=True)
        try:
            copied = copy_tree(source, target.fd, limits)
            os.fchmod(target.fd, 0o700)
        finally:
            target.close()
        return copied

    def _keep(self, tenant: Tenant, workspace: str, most: int, *, automatic: bool, but: str = "") -> None:
        """Forget the oldest beyond ``most`` of those that were made of themselves, or of the others."""
        alike = [one for one in self.list(tenant, workspace) if (one.why == "before_turn") == automatic]
        for old in alike[:-most]:
            if old.id != but:
                self.remove(tenant, old.id)

    def _keep_within(self, tenant: Tenant, together: Room) -> None:
        """Forget the oldest that messages made, of whatever workspace, until the rest is within ``together``."""
        size = files = 0
        for number, one in enumerate(reversed([one for one in self.list(tenant) if one.why == "before_turn"])):
            size, files = size + one.bytes, files + one.files
            if number and (size > together.bytes or files > together.files):
                self.remove(tenant, one.id)

    def _require_room(self, tenant: Tenant, size: int, most: int) -> None:
        """Raise DiskQuotaExceeded where ``size`` more does not fit beside those that only somebody may remove."""
        kept = sum(one.bytes for one in self.list(tenant) if one.why != "before_turn")
        if kept + size > most:
            raise DiskQuotaExceeded(
                f"The tenant's snapshots take {kept} bytes, of {most} (quotas.snapshots_bytes), and {size} more do not "
                "fit: none was made. `carrel tenants snapshots ID --remove SNAPSHOT` forgets one."
            )

    def _make_room(self, tenant: Tenant, most: int | None, *, but: str) -> None:
        """Forget the oldest that messages made until all are within ``most`` bytes; a way back is never refused."""
        if most is None:
            return
        kept = self.list(tenant)
        size = sum(one.bytes for one in kept)
        for one in kept:
            if size > most and one.why == "before_turn" and one.id != but:
                self.remove(tenant, one.id)
                size -= one.bytes

    def _taken(self, tenant: Tenant, snapshot_id: str) -> Use:
        """What one takes that was not copied but put by; nothing where somebody hides it by moving it about."""
        with (
            contextlib.suppress(Moved),
            contextlib.closing(tenant.root.directory(f"{PLACE}/{snapshot_id}/{FILES}")) as kept,
        ):
            return walked(kept.fd)
        return Use()

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


def _within_quota(limits: Limits, most: int | None) -> Limits:
    if most is None or limits.most_bytes <= most:
        return limits
    return replace(limits, most_bytes=most, named="quotas.snapshots_bytes")


def _within_the_disk(source: int, limits: Limits) -> Limits:
    """``limits`` with no more than there is room for; raises StorageFull where there is none."""
    room = room_at(source)
    if room.bytes <= 0 or room.files <= 0:
        raise StorageFull("The disk is nearly full, so that no snapshot is made.")
    written = room.bytes if limits.most_unshared is None else min(limits.most_unshared, room.bytes)
    return replace(limits, most_unshared=written, most_entries=min(limits.most_entries, room.files))


def _not_made(undone: str, error: OSError) -> CarrelError:
    return lacking(error, undone) or StorageFailed(f"The disk refuses ({error.strerror}): {undone}.")


def _state(source: int, limits: Limits) -> str:
    try:
        return state_of(source, limits)
    except TooLarge:
        return ""


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
