"""The one journal that all tenants' ledger rows pass through: one `fdatasync` for many of them.

A call that is let through leaves a line, and a claim on the room that its settling will need; so a settle never waits
for room and never finds the disk full. Files are replaced as they fill. What is open goes with them into the next one;
what is settled is in a tenant's ledger before its file is removed, or used again.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.durability import sync_directory
from carrel.errors import CarrelError, StorageFailed
from carrel.metering.committer import Committer
from carrel.metering.rows import SETTLED_MAX, Tariff
from carrel.metering.segment import SUFFIX, Segment, framed, order_of, translated
from carrel.tasks import Tasks

_log = structlog.get_logger(__name__)
SEGMENT_BYTES: Final = 2 << 20
SPARES: Final = 12
"""How many files are kept to be used again: as many as fill, at tens of thousands of rows a second, while rows gather
for their ledgers and are entered. To make one takes the disk longer than a commit may."""
RETRY_SECONDS: Final = 1.0
_CLAIM: Final = SETTLED_MAX + 8


@dataclass(frozen=True, slots=True)
class _Refused:
    """That the disk took no file: why, when, and what it had left."""

    error: CarrelError
    at: float
    free: int


class Journal:
    """The journal of one gateway. Use it from the event loop's thread."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        tasks: Tasks,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._tasks = tasks
        self._segment_bytes = segment_bytes
        self._sync_file = sync
        self._committer = Committer(sync)
        self._committing: list[Segment] = []
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="carrel-journal")
        self._number = 0
        self._current: Segment | None = None
        self._spares: list[Segment] = []
        self._full: deque[Segment] = deque()
        self._left: deque[tuple[Path, int]] = deque()
        self._making: asyncio.Task[None] | None = None
        self._refused: _Refused | None = None
        self._open: dict[str, tuple[Tariff, bytes]] = {}
        self._sequence = 0
        self._unapplied: dict[int, None] = {}
        self._dirty: list[Segment] = []
        self._unsynced: list[tuple[Tariff, bytes, bytes]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._syncing = False
        self._failed: CarrelError | None = None

    @property
    def open_calls(self) -> int:
        """How many calls are let through and not settled."""
        return len(self._open)

    @property
    def failed(self) -> CarrelError:
        """Why the disk takes nothing now, where it does not."""
        return self._failed or StorageFailed("The disk takes nothing.")

    def continue_after(self, files: Iterable[tuple[Path, int]]) -> None:
        """Go on after ``files`` of an earlier run. Each is removed once the sequence number with it is applied."""
        for path, last in files:
            self._left.append((path, last))
            name = path.name.removesuffix(SUFFIX)
            self._number = max(self._number, order_of(path), int(name) if name.isdecimal() else 0)

    def next_sequence(self) -> int:
        """A number for one more row; `applied` takes it back once the row is in its ledger."""
        self._sequence += 1
        self._unapplied[self._sequence] = None
        return self._sequence

    async def prepare(self) -> None:
        """Make the first file. Raises StorageFailed: then `open` tries again."""
        await self._make_room(0)

    async def open(self, key: str, line: bytes, tariff: Tariff) -> None:
        """Write the line of a call that is let through, and claim the room to settle it. Raises StorageFailed.

        The line outlives the process when this returns; the machine's end it outlives with the next commit.
        """
        while not self.opens(key, line, tariff):
            await self._make_room(framed(line) + framed(tariff.line()) + _CLAIM)

    def opens(self, key: str, line: bytes, tariff: Tariff) -> bool:
        """What `open` does, where the file at hand has the room; else False. Raises StorageFailed."""
        if self._failed is not None:
            raise again(self._failed)
        current = self._current
        if current is None:
            return False
        need = framed(line) + (len(self._open) + 1) * _CLAIM
        new = tariff.number not in current.tariffs
        if current.room < (need + framed(tariff.line()) if new else need):
            return False
        if new:
            self._name_tariff(current, tariff)
        current.append(line)
        self._open[key] = (tariff, line)
        if not self._spares and self._making is None and current.room < current.size // 2:
            self._start_making(self._wanted(0))
        return True

    def settle(self, key: str, line: bytes) -> tuple[int, asyncio.Future[None] | None]:
        """Write the line of a settled call: its sequence number, and a future that is done once it is on the disk.

        No future: the disk takes nothing now. The line is kept and written again until it does.
        """
        tariff, opened = self._open.pop(key)
        current = self._current
        if current is None:
            raise RuntimeError("a call was settled that no file has opened")
        current.append(line)
        number = self.next_sequence()
        current.last = number
        self._unsynced.append((tariff, opened, line))
        if current not in self._dirty:
            self._dirty.append(current)
        if self._failed is not None:
            return number, None
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._commit_soon()
        return number, waiter

    def applied(self, numbers: Iterable[int]) -> None:
        """Note that the rows of these sequence numbers are in their ledgers."""
        for number in numbers:
            self._unapplied.pop(number, None)

    async def tidy(self) -> None:
        """Remove the files whose rows are all in their ledgers; some are kept to be used again."""
        first = next(iter(self._unapplied), self._sequence + 1)
        paths: list[Path] = []
        while self._left and self._left[0][1] < first:
            paths.append(self._left.popleft()[0])
        segments: list[Segment] = []
        busy = (*self._dirty, *self._committing)
        while self._full and self._full[0].last < first and self._full[0] not in busy:
            segments.append(self._full.popleft())
        if not paths and not segments:
            return
        carried = self._current if segments and self._open else None
        again = self._reusable(segments)
        gone = [segment for segment in segments if segment not in again]
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self._remove, paths, gone, carried)
        except OSError as error:
            _log.warning("files of the journal could not be removed", error=os.strerror(error.errno or 0))
            for segment in again:
                segment.close()
            return
        for segment in again:
            segment.rest()
        self._spares += again

    def _reusable(self, segments: list[Segment]) -> list[Segment]:
        """Those that are kept: to make a file anew costs the disk more than all that is written to it."""
        if self._failed is not None or self._making is not None:
            return []
        wanted = self._wanted(0)
        more = max(SPARES - len(self._spares), 0)
        return [one for one in segments if not one.worn and one.size == wanted][:more]

    async def close(self) -> None:
        """Write what is written to the disk; where nothing is open and all is applied, leave no file behind."""
        if self._making is not None:
            await asyncio.wait([self._making])
        while self._syncing:
            await asyncio.wait([self._flush()])
        segments = [s for s in (*self._full, self._current, *self._spares) if s is not None]
        if not self._open and not self._unapplied:
            self._current = None
            self._spares.clear()
            self._full.clear()
            with suppress(OSError):
                await asyncio.get_running_loop().run_in_executor(self._pool, self._remove, [], segments, None)
        for segment in segments:
            segment.close()
        self._pool.shutdown(wait=True)
        self._committer.close()

    def _flush(self) -> asyncio.Future[None]:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._commit_soon()
        return waiter

    # --- committing in groups ---

    def _commit_soon(self) -> None:
        """Commit once the loop has done what is ready now: what that settles belongs to the same group."""
        if not self._syncing:
            self._syncing = True
            asyncio.get_running_loop().call_soon(self._sync)

    def _sync(self) -> None:
        """Commit everything written so far; what comes meanwhile is the next group."""
        waiters, self._waiters = self._waiters, []
        segments, self._dirty = self._dirty, []
        lines, self._unsynced = self._unsynced, []
        self._committing = segments
        self._committer.commit([segment.fd for segment in segments], partial(self._synced, waiters, lines))

    def _sync_all(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._sync_file(segment.fd)

    def _synced(
        self,
        waiters: list[asyncio.Future[None]],
        lines: list[tuple[Tariff, bytes, bytes]],
        error: Exception | None,
    ) -> None:
        self._syncing = False
        committed, self._committing = self._committing, []
        if error is None:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            if self._waiters:
                self._commit_soon()
            return
        for segment in committed:
            segment.worn = True
        # What the disk refused may be gone from its cache too: the lines are kept here and written to a new file.
        self._unsynced = lines + self._unsynced
        waiters += self._waiters
        self._waiters = []
        failed = translated(error) if isinstance(error, OSError) else StorageFailed("The ledger's journal failed.")
        _log.error("the journal could not be committed; no calls are taken until it can", error=failed.message)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(again(failed))
        if self._failed is None:
            self._tasks.start(self._recover(), name="journal-recovery")
        self._failed = failed

    async def _recover(self) -> None:
        """Write the kept lines to a new file, again and again until one takes them."""
        while self._failed is not None:
            await self._clock.sleep(RETRY_SECONDS)
            try:
                kept = sum(framed(t.line()) + framed(o) + framed(s) for t, o, s in self._unsynced)
                self._full.extendleft(self._spares)
                self._spares.clear()
                wanted = self._wanted(kept + len(self._unsynced) * _CLAIM)
                spare = await self._made(wanted)
                if spare is None or spare.size < wanted:
                    continue
                current = self._rotate(spare)
                lines = list(self._unsynced)
                for tariff, opened, settled in lines:
                    self._name_tariff(current, tariff)
                    current.append(opened)
                    current.append(settled)
                current.last = self._sequence
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self._pool, self._sync_all, [current])
            except (OSError, CarrelError) as error:
                _log.error("the journal still cannot be committed", error=str(error))
                continue
            self._unsynced = self._unsynced[len(lines) :]
            self._dirty = [current] if self._unsynced else []
            self._failed = None
            _log.info("the journal is written again")

    # --- room ---

    def _wanted(self, need: int) -> int:
        """The size of the next file: all that is open must fit into it with the room to settle, and be little of it."""
        carried = sum(framed(tariff.line()) + framed(line) + _CLAIM for tariff, line in self._open.values())
        return max(self._segment_bytes, 4 * (carried + need))

    async def _make_room(self, need: int) -> None:
        """Go on to a next file that holds what is open and ``need`` bytes more."""
        spare = self._spares[0] if self._spares else await self._made(self._wanted(need))
        if spare is None:
            return
        if spare.size < self._wanted(need):
            # None of them is larger, but for one that was made for so much.
            self._full.appendleft(self._spares.pop(0))
        else:
            self._rotate(spare)

    async def _made(self, size: int) -> Segment | None:
        """The spare file that is made now; None where another took it meanwhile. Raises what stands in the way.

        A full disk is asked once a second, however many wait, and at once where there is room that there was not.
        """
        refused = self._refused
        if (
            refused is not None
            and self._clock.monotonic() < refused.at + RETRY_SECONDS
            and not refused.free < size <= self._free()
        ):
            raise again(refused.error)
        if self._making is None:
            self._start_making(size)
        if self._making is not None:
            await asyncio.shield(self._making)
        if self._refused is not None:
            raise again(self._refused.error)
        return self._spares[-1] if self._spares else None

    def _free(self) -> int:
        """Bytes that the disk has left for us, 0 where it does not tell."""
        with suppress(OSError):
            found = os.statvfs(self._directory)
            return found.f_bavail * found.f_frsize
        return 0

    def _start_making(self, size: int) -> None:
        self._making = self._tasks.start(self._make(size), name="journal-file")

    async def _make(self, size: int) -> None:
        self._number += 1
        path = self._directory / f"{self._number:010d}{SUFFIX}"
        loop = asyncio.get_running_loop()
        try:
            self._spares.append(await loop.run_in_executor(self._pool, partial(Segment.create, path, size)))
            self._refused = None
        except CarrelError as error:
            _log.error("the journal has no room for another file", error=error.message)
            self._refused = _Refused(error, self._clock.monotonic(), self._free())
        finally:
            self._making = None

    def _rotate(self, spare: Segment) -> Segment:
        """Make the spare file the current one, with what is open carried into it."""
        if self._current is not None:
            self._full.append(self._current)
        self._current = spare
        self._spares.remove(spare)
        self._number += 1
        spare.begin(self._number)
        for tariff, line in self._open.values():
            self._name_tariff(spare, tariff)
            spare.append(line)
        return spare

    @staticmethod
    def _name_tariff(segment: Segment, tariff: Tariff) -> None:
        if tariff.number not in segment.tariffs:
            segment.append(tariff.line())
            segment.tariffs.add(tariff.number)

    def _remove(self, paths: list[Path], segments: list[Segment], carried: Segment | None) -> None:
        if carried is not None:
            self._sync_file(carried.fd)
        for segment in segments:
            segment.close()
        gone = (*paths, *(segment.path for segment in segments))
        for path in gone:
            path.unlink(missing_ok=True)
        if gone:
            sync_directory(self._directory)


def again(error: CarrelError) -> CarrelError:
    """The same error anew: one instance is not raised twice."""
    return type(error)(error.message)
