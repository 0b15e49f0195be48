"""What request quotas have counted, in a file that outlives the process: windows that slide go on where they were.

One record a tenant, of fixed size, mapped into memory: to count a request costs a copy of some bytes and no system
call. What is in the mapping outlives the process from that instant; a machine that dies may lose the last seconds of
it. A count is written behind its slot's number, so that one that is cut between the two counts too much, never less.
"""

import mmap
import os
import struct
from contextlib import suppress
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Final

import structlog

from carrel.ids import TenantId
from carrel.metering.account import Account
from carrel.metering.rows import micros
from carrel.policy.quota import SLOTS

NAME: Final = "windows"
MAGIC: Final = b"carrel windows 1"
RECORD: Final = 2048
GROWN_BY: Final = 256
WARNED: Final = (
    "tokens_per_day", "tokens_per_month", "cost_per_day_usd", "cost_per_month_usd", "requests_per_second",
    "requests_per_minute", "requests_per_hour", "disk_bytes", "disk_files", "snapshots_bytes", "concurrent_sessions",
    "sandbox_cpu_seconds", "sandbox_memory_bytes", "sandbox_pids",
)  # fmt: skip
"""The quotas in the order of their places in a record: new ones come behind."""
_HEAD: Final = 64
_KEPT_MICROSECONDS: Final = 62 * 86_400_000_000
"""A record that nothing was counted in for so long says nothing any more."""
_ROOM: Final = SLOTS + 1
_SLOT: Final = struct.Struct("<qI")
_TIMES: Final = struct.Struct("<qd")
_BUCKET: Final = struct.Struct("<dd")
_UNTIL: Final = struct.Struct("<q")
_AT_TIMES: Final = 32
_AT_BUCKET: Final = 48
_AT_MINUTE: Final = 64
_AT_HOUR: Final = _AT_MINUTE + _ROOM * _SLOT.size
_AT_WARNED: Final = _AT_HOUR + _ROOM * _SLOT.size
_log = structlog.get_logger(__name__)


class Standing:
    """The file. Use it on the event loop, but for `open`, which blocks."""

    def __init__(self, directory: Path, *, boot: bytes | None = None) -> None:
        self._path = directory / NAME
        self._boot = boot if boot is not None else _boot_id()
        self._map: mmap.mmap | None = None
        self._fd = -1
        self._places: dict[TenantId, int] = {}
        self._free: list[int] = []

    def open(self, *, now: float, wall: datetime) -> None:
        """Map the file, made where it is missing. Where that fails, counts are in memory alone: the log says so.

        ``now`` is the clock that never goes back.
        """
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            size = os.fstat(self._fd).st_size
            if size < _HEAD or os.pread(self._fd, len(MAGIC), 0) != MAGIC:
                os.ftruncate(self._fd, 0)
                size = _HEAD
            made = self._grow(size + GROWN_BY * RECORD if size == _HEAD else size)
        except OSError as error:
            _log.error("request quotas begin anew with each start", error=os.strerror(error.errno or 0))
            self.close()
            return
        same = made[len(MAGIC) : len(MAGIC) + len(self._boot)] == self._boot
        for at in range(_HEAD, len(made) - RECORD + 1, RECORD):
            name = made[at : at + 32].rstrip(b"\0")
            if not name:
                self._free.append(at)
                continue
            wrote, _ = _TIMES.unpack_from(made, at + _AT_TIMES)
            if micros(wall) - wrote > _KEPT_MICROSECONDS and wrote:
                made[at : at + RECORD] = bytes(RECORD)
                self._free.append(at)
                continue
            self._places[TenantId(name.decode("ascii", "replace"))] = at
            if not same:
                _shift(made, at, now=now, wall=wall)
        self._free.reverse()
        made[: len(MAGIC) + len(self._boot)] = MAGIC + self._boot

    def adopt(self, tenant: TenantId, account: Account) -> None:
        """Give ``account`` what was counted of ``tenant`` before."""
        made, at = self._map, self._places.get(tenant)
        if made is None or at is None:
            return
        account.minute.restore(_slots(made, at + _AT_MINUTE))
        account.hour.restore(_slots(made, at + _AT_HOUR))
        account.second.restore(*_BUCKET.unpack_from(made, at + _AT_BUCKET))
        for number, quota in enumerate(WARNED):
            (until,) = _UNTIL.unpack_from(made, at + _AT_WARNED + number * _UNTIL.size)
            if until:
                account.warned[quota] = until

    def counted(self, tenant: TenantId, account: Account, *, now: float, wall: datetime) -> None:
        """Keep what ``account`` has just counted."""
        at = self._place(tenant)
        made = self._map
        if at is None or made is None:
            return
        for window, place in ((account.minute, _AT_MINUTE), (account.hour, _AT_HOUR)):
            newest = window.newest
            if newest is not None:
                _SLOT.pack_into(made, at + place + newest[0] % _ROOM * _SLOT.size, *newest)
        _BUCKET.pack_into(made, at + _AT_BUCKET, *account.second.state)
        _TIMES.pack_into(made, at + _AT_TIMES, micros(wall), now)

    def warned(self, tenant: TenantId, quota: str, until: int) -> None:
        """Keep that ``tenant`` was warned of ``quota``, and until when that is enough (microseconds since 1970)."""
        at = self._place(tenant)
        if at is not None and self._map is not None and quota in WARNED:
            _UNTIL.pack_into(self._map, at + _AT_WARNED + WARNED.index(quota) * _UNTIL.size, until)

    def close(self) -> None:
        """Unmap it; what was counted stays."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _grow(self, size: int) -> mmap.mmap:
        """Map ``size`` bytes, which the disk has set aside: nothing that is written there fails later."""
        os.posix_fallocate(self._fd, 0, size)
        if self._map is not None:
            self._map.close()
        self._map = mmap.mmap(self._fd, size)
        return self._map

    def _place(self, tenant: TenantId) -> int | None:
        at = self._places.get(tenant)
        if at is not None or self._map is None:
            return at
        if not self._free:
            size = len(self._map)
            try:
                self._grow(size + GROWN_BY * RECORD)
            except OSError as error:
                _log.error("a tenant's request quotas are in memory alone", tenant=tenant, error=error.strerror)
                return None
            self._free = list(range(size + (GROWN_BY - 1) * RECORD, size - 1, -RECORD))
        at = self._free.pop()
        self._map[at : at + RECORD] = tenant.encode().ljust(RECORD, b"\0")
        _BUCKET.pack_into(self._map, at + _AT_BUCKET, -1.0, 0.0)
        self._places[tenant] = at
        return at


def _slots(made: mmap.mmap, place: int) -> list[tuple[int, int]]:
    found = (_SLOT.unpack_from(made, place + number * _SLOT.size) for number in range(_ROOM))
    return sorted((slot, count) for slot, count in found if count)


def _shift(made: mmap.mmap, at: int, *, now: float, wall: datetime) -> None:
    """Put a record of an earlier life of the machine, whose clock began anew, into this one's time.

    How long ago it was is what the wall clock says; where that went back, it was just now.
    """
    wrote, then = _TIMES.unpack_from(made, at + _AT_TIMES)
    by = now - (then + max((micros(wall) - wrote) / 1_000_000, 0.0))
    for place, seconds in ((_AT_MINUTE, 60.0), (_AT_HOUR, 3600.0)):
        slots = _slots(made, at + place)
        made[at + place : at + place + _ROOM * _SLOT.size] = bytes(_ROOM * _SLOT.size)
        whole = ceil(by * SLOTS / seconds)
        for slot, count in slots:
            _SLOT.pack_into(made, at + place + (slot + whole) % _ROOM * _SLOT.size, slot + whole, count)
    level, filled = _BUCKET.unpack_from(made, at + _AT_BUCKET)
    _BUCKET.pack_into(made, at + _AT_BUCKET, level, filled + by)
    _TIMES.pack_into(made, at + _AT_TIMES, wrote, then + by)


def _boot_id() -> bytes:
    """What names this life of the machine; where nothing does, each start is one."""
    with suppress(OSError, ValueError):
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", ""))
    return os.urandom(16)
