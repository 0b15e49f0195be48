"""Rows on their way from the journal into tenants' ledgers, and what is read from there.

A row is here from the moment it is settled until its ledger has it. Readers are given the ledger and what is still
here, so that a report is complete also while the disk takes nothing. Rows of a ledger that is broken stay here too, and
in a file of their own: the journal, which is everybody's, need not keep them.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import apsw
import structlog

from carrel.clock import Clock
from carrel.errors import CarrelError, StorageFailed, StorageFull, Unavailable, lacking
from carrel.ids import TenantId
from carrel.metering.aside import Aside
from carrel.metering.journal import Journal, again
from carrel.metering.ledger import (
    LedgerEntry,
    apply,
    entries,
    missing,
    note,
    open_ledger,
)
from carrel.metering.protocol import ToolEnding
from carrel.metering.recount import Counting, Recount, recount
from carrel.metering.rollups import Charged, Split, Sums, by_day, by_split, charged, charged_of
from carrel.metering.rows import Row, Values
from carrel.policy.periods import Period
from carrel.store.sqlite import OPEN_DATABASES, DatabasePool, Worker
from carrel.tasks import Tasks
from carrel.telemetry import Metrics

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
_log = structlog.get_logger(__name__)
GATHER_SECONDS: Final = 1.0
"""How long rows are gathered: their journal has them, and who reads is given them too. Each commit of a ledger is one
more that the disk does while the journal asks it for its own."""
BATCH_ROWS: Final = 512
"""How many rows are of one transaction: to add them up and commit them holds a processor, and then the disk, for a
millisecond or two, which the journal's next sync may have to wait for."""

RECOUNT_NICENESS: Final = 10
"""A recount computes for minutes: where processors are few, calls go before it."""

PUT_BY: Final = 0
"""The number of a row that the journal need not keep: it is in a file of its tenant's waiting rows."""


class LedgerBook:
    """All tenants' ledgers, written on one thread."""

    def __init__(
        self,
        state_dir: Path,
        journal: Journal,
        *,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        open_ledgers: int = OPEN_DATABASES,
    ) -> None:
        self._state_dir = state_dir
        self._journal = journal
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._aside = Aside(state_dir / "metering")
        self._put_by: set[TenantId] = set()
        self._resting: set[TenantId] = set()
        self._worker = Worker("carrel-ledger")
        # One ledger at a time is counted anew, on a thread that nothing else waits for.
        self._counter = Worker("carrel-recount", niceness=RECOUNT_NICENESS)
        self._counting: dict[TenantId, list[Counting]] = {}
        self._pool = DatabasePool(lambda key: open_ledger(state_dir, TenantId(key)), limit=open_ledgers)
        self._pending: dict[TenantId, list[tuple[int, Values]]] = {}
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._full: StorageFull | None = None
        self._broken: dict[TenantId, CarrelError] = {}

    @property
    def open_ledgers(self) -> int:
        """How many ledgers are open."""
        return len(self._pool)

    def start(self, serving: asyncio.Event | None = None) -> None:
        """Begin to write what is added, soon after it is, but not before ``serving``."""
        self._tasks.start(self._run(serving), name="ledgers")

    async def take_up(self) -> int:
        """Take over the rows that an earlier run put by, but for those that the journal had too; how many.

        Raises StorageFailed.
        """
        count = 0
        for tenant, rows in (await self._worker.run(self._aside.read)).items():
            self._put_by.add(tenant)
            there = {values[0] for _, values in self._pending.get(tenant, ())}
            for values in rows:
                if values[0] not in there:
                    count += 1
                    self.add(PUT_BY, tenant, values)
        return count

    def check(self, tenant: TenantId) -> None:
        """Raise where rows cannot be written now: then no more are made."""
        if self._full is not None:
            raise again(self._full)
        broken = self._broken.get(tenant)
        if broken is not None:
            raise again(broken)

    def add(self, number: int, tenant: TenantId, values: Values) -> None:
        """Take a settled row of ``tenant``; ``number`` is its sequence number in the journal."""
        waiting = self._pending.get(tenant)
        if waiting is None:
            waiting = self._pending[tenant] = []
            self._wake.set()
        waiting.append((number, values))

    async def flush(self, tenant: TenantId) -> None:
        """Write what is here of ``tenant`` now. Raises StorageFailed, and what else is wrong with its ledger."""
        if tenant in self._pending:
            # What was begun is finished, whoever stops waiting: else nobody would count what was written.
            entering = asyncio.ensure_future(self._enter(tenant))
            entering.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(entering)

    async def flush_all(self) -> None:
        """Write everything that can be written; what cannot stays."""
        for tenant in list(self._pending):
            try:
                await self.flush(tenant)
            except CarrelError as error:
                if tenant not in self._put_by:
                    _log.error("rows wait for their ledger", tenant=tenant, error=error.message)
                if isinstance(error, StorageFull):
                    break
        await self._journal.tidy()

    async def sums(self, tenant: TenantId, period: Period) -> dict[tuple[date, str], Sums]:
        """Sums by day and model, of every row that was settled before."""
        await self._flush_if_possible(tenant)
        waiting = self._waiting(tenant, period)
        return await self._worker.run(
            lambda: _whole(
                self._pool.get(tenant), waiting, lambda own: by_day(own, period), lambda row: (row.day, row.model)
            )
        )

    async def sums_split(self, tenant: TenantId, period: Period, split: Split) -> dict[tuple[date, str, str], Sums]:
        """Sums by day, model and what ``split`` says."""

        def key(row: Row) -> tuple[date, str, str]:
            own = "byo" if row.byo else "operator"
            return row.day, row.model, {
                "agent": row.agent, "session": row.session_id, "member": row.member, "key": own,
            }[split]  # fmt: skip

        return await self._added(tenant, period, lambda own: by_split(own, period, split), key)

    async def charged(self, tenant: TenantId, period: Period) -> dict[Charged, Sums]:
        """Sums of what was charged alike."""
        return await self._added(tenant, period, lambda own: charged(own, period), charged_of)

    async def recount(self, tenant: TenantId) -> Recount:
        """Every call of the ledger counted anew, and held against the sums that are kept beside them.

        One after another, of all tenants. Where who asked is gone, it ends: of a large ledger a thread would count on
        for minutes.
        """
        gone, at = threading.Event(), Counting()
        self._counting.setdefault(tenant, []).append(at)

        def count() -> Recount:
            if gone.is_set():
                return Recount(0, ())
            return self._beside(tenant, lambda own: recount(own, at, gone.is_set), Recount(0, ()))

        try:
            await self._flush_if_possible(tenant)
            return await self._counter.run(count)
        finally:
            gone.set()
            asked = self._counting[tenant]
            asked.remove(at)
            if not asked:
                del self._counting[tenant]

    def counting(self, tenant: TenantId) -> Counting | None:
        """How far the recount of the ledger is that runs or waits, the first asked for of several; None without one."""
        asked = self._counting.get(tenant)
        return asked[0] if asked else None

    async def _added(
        self,
        tenant: TenantId,
        period: Period,
        read: Callable[[apsw.Connection], dict[K, Sums]],
        key: Callable[[Row], K],
    ) -> dict[K, Sums]:
        """What ``read`` finds in the ledger, with what still waits for it."""
        await self._flush_if_possible(tenant)
        waiting = self._waiting(tenant, period)
        return await asyncio.to_thread(self._beside, tenant, lambda own: _whole(own, waiting, read, key), {})

    def _waiting(self, tenant: TenantId, period: Period) -> list[Row]:
        """The rows of ``period`` that are on their way."""
        rows = (Row.of(tenant, values) for _, values in self._pending.get(tenant, ()))
        return [row for row in rows if period.holds(row.day)]

    def _beside(self, tenant: TenantId, read: Callable[[apsw.Connection], T], nothing: T) -> T:
        """What ``read`` finds on a connection of its own, beside the ledger's thread, which writes rows meanwhile."""
        try:
            own = open_ledger(self._state_dir, tenant)
        except FileNotFoundError:
            return nothing
        with contextlib.closing(own):
            return read(own)

    async def entries(
        self, tenant: TenantId, period: Period, *, after: tuple[int, int] | None, limit: int
    ) -> list[tuple[tuple[int, int], LedgerEntry]]:
        """Rows in the order of time from behind ``after``. Those that wait for the disk come once it takes them."""
        await self._flush_if_possible(tenant)
        return await self._worker.run(lambda: entries(self._pool.get(tenant), period, after=after, limit=limit))

    async def note(self, tenant: TenantId, ended: int, it: ToolEnding) -> None:
        """Write down that a limit ended a tool call; raises StorageFailed, and what else is wrong with the ledger."""
        await self._worker.run(partial(self._note, tenant, ended, it))

    async def forget(self, tenant: TenantId) -> None:
        """Write what can be written of ``tenant`` and close its ledger: before its directory is moved or removed.

        Raises nothing that is wrong with the ledger: what it does not take is kept beside.
        """
        try:
            await self.flush(tenant)
        except CarrelError as error:
            _log.error("a ledger is let go of that rows wait for", tenant=tenant, error=error.message)
        await self._worker.run(lambda: self._pool.discard(tenant))
        self._broken.pop(tenant, None)

    async def rest(self, tenant: TenantId) -> None:
        """The same, and nothing is written to its ledger until `wake`: its directory is exchanged for another."""
        await self.forget(tenant)
        async with self._lock:
            self._resting.add(tenant)
        await self._worker.run(lambda: self._pool.discard(tenant))

    async def wake(self, tenant: TenantId) -> None:
        """Its directory is in its place: what waited is entered there."""
        await self._worker.run(lambda: self._pool.discard(tenant))
        self._broken.pop(tenant, None)
        self._resting.discard(tenant)
        if tenant in self._pending:
            self._wake.set()

    async def close(self) -> None:
        """Write everything that can be written, and close the ledgers."""
        await self.flush_all()
        async with self._lock:
            await self._worker.run(self._pool.close)
        self._worker.close()
        self._counter.close()

    async def _flush_if_possible(self, tenant: TenantId) -> None:
        try:
            await self.flush(tenant)
        except StorageFailed as error:
            _log.warning("read while rows wait for the disk", tenant=tenant, error=error.message)

    async def _run(self, serving: asyncio.Event | None) -> None:
        if serving is not None:
            await serving.wait()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._clock.sleep(GATHER_SECONDS)
            await self.flush_all()
            if self._pending:
                self._wake.set()

    async def _enter(self, tenant: TenantId) -> None:
        async with self._lock:
            if tenant in self._resting:
                return
            # What comes meanwhile is for the next time: a busy tenant would have a commit for every few rows.
            due = len(self._pending.get(tenant, ()))
            try:
                while due > 0:
                    due -= await self._apply(tenant, min(due, BATCH_ROWS))
            except (StorageFull, Unavailable):
                raise
            except CarrelError as error:
                await self._put_aside(tenant, error)
                raise
            if tenant in self._put_by:
                await self._nothing_aside(tenant)

    async def _apply(self, tenant: TenantId, count: int) -> int:
        """Write the first ``count`` rows of the tenant; returns that. The caller has the lock."""
        batch = self._pending[tenant][:count]
        rows = [values for _, values in batch]
        try:
            written = await self._worker.run(partial(self._write, tenant, rows))
        except StorageFull as error:
            self._full = error
            raise
        except CarrelError as error:
            self._broken[tenant] = error
            raise
        self._full = None
        self._broken.pop(tenant, None)
        left = self._pending[tenant]
        del left[: len(batch)]
        if not left:
            del self._pending[tenant]
        self._journal.applied(number for number, _ in batch)
        self._count(tenant, written)
        return count

    async def _put_aside(self, tenant: TenantId, why: CarrelError) -> None:
        """Keep the tenant's rows in a file of its own, so that the journal need not. The caller has the lock."""
        waiting = self._pending[tenant]
        fresh = [(at, number, values) for at, (number, values) in enumerate(waiting) if number != PUT_BY]
        if not fresh:
            return
        try:
            await self._worker.run(partial(self._aside.keep, tenant, [values for *_, values in fresh]))
        except StorageFailed as error:
            _log.error("rows of a broken ledger stay in the journal", tenant=tenant, error=error.message)
            return
        self._put_by.add(tenant)
        for at, _, values in fresh:
            waiting[at] = (PUT_BY, values)
        self._journal.applied(number for _, number, _ in fresh)
        _log.error(
            "a ledger takes no rows; they are kept in a file, and entered once it does", tenant=tenant, rows=len(fresh),
            file=str(self._aside.path(tenant)), error=why.message,
        )  # fmt: skip

    async def _nothing_aside(self, tenant: TenantId) -> None:
        """Take away the file of rows that are in their ledger now. The caller has the lock."""
        if any(number == PUT_BY for number, _ in self._pending.get(tenant, ())):
            return
        try:
            await self._worker.run(partial(self._aside.drop, tenant))
        except StorageFailed as error:
            _log.warning("a file of rows that were entered is still there", tenant=tenant, error=error.message)
            return
        self._put_by.discard(tenant)

    def _note(self, tenant: TenantId, ended: int, it: ToolEnding) -> None:
        try:
            note(self._pool.get(tenant), ended, it)
        except FileNotFoundError:
            self._pool.discard(tenant)
        except (apsw.Error, OSError) as error:
            self._pool.discard(tenant)
            raise _closed(error) from error

    def _write(self, tenant: TenantId, rows: Sequence[Values]) -> dict[str, Sums]:
        try:
            return apply(self._pool.get(tenant), rows)
        except FileNotFoundError:
            self._pool.discard(tenant)
            self._aside.orphan(tenant, rows)
            return {}
        except (CarrelError, apsw.Error, OSError) as error:
            self._pool.discard(tenant)
            if isinstance(error, CarrelError):
                raise
            raise _closed(error) from error

    def _count(self, tenant: TenantId, written: Mapping[str, Sums]) -> None:
        for model, sums in written.items():
            c = sums.counts
            for name, count in (
                ("input", c.input), ("cache_read", c.cache_read), ("cache_write", c.cache_write),
                ("output", c.output), ("reasoning", c.reasoning),
            ):  # fmt: skip
                self._metrics.tokens(tenant, model=model, token_class=name, count=count)
            self._metrics.cost(tenant, float(sums.cost))


def _whole(
    own: apsw.Connection,
    waiting: Sequence[Row],
    read: Callable[[apsw.Connection], dict[K, Sums]],
    key: Callable[[Row], K],
) -> dict[K, Sums]:
    """What ``read`` finds in a ledger, and what of ``waiting`` is not there yet.

    In one look at it: what waited a moment ago may be written between two. It may be there although writing it failed:
    a commit whose sync the disk refused is found again when the ledger is opened anew.
    """
    with own:
        found = read(own)
        for row in missing(own, waiting):
            found[key(row)] = found.get(key(row), Sums()) + Sums(1, row.counts, row.tool_calls, row.cost)
    return found


def _closed(error: Exception) -> CarrelError:
    lacks = lacking(error, "nothing was written") if isinstance(error, OSError) else None
    return lacks or CarrelError("A tenant's ledger cannot be opened; the operator's log says why.")
