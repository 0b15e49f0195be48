import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import apsw
import pytest

from carrel.declare.quotas import Quotas
from carrel.errors import CarrelError, StorageFailed
from carrel.ids import RequestId, TenantId
from carrel.metering import recount as recounts
from carrel.metering.protocol import Call
from carrel.metering.recount import Counting, Recount
from carrel.metering.rollups import Sums
from carrel.metering.rows import Values
from tests.fakes.clock import FakeClock
from tests.fakes.patience import PATIENCE, eventually
from tests.fakes.tenants import make_tenant
from tests.unit.metering.harness import USED, bench

LEDGER = "tenants/acme/usage/ledger.sqlite"
WAITING = "metering/waiting/acme.jsonl"


async def test_rows_reach_their_ledger_by_themselves(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.call(1)
        assert b.meter._book._pending
        async with asyncio.timeout(PATIENCE):
            while b.meter._book._pending:
                b.clock.advance(1)
                await asyncio.sleep(0.01)
        assert len(await b.rows()) == 1


async def test_a_broken_ledger_stops_its_tenant_alone_and_loses_no_row(tmp_path: Path) -> None:
    async with bench(tmp_path, clock=FakeClock()) as b:
        held = await b.hold(1)
        await b.meter.flush()
        b.meter._book._pool.close()
        path = tmp_path / "tenants/acme/usage/ledger.sqlite"
        kept = path.read_bytes()
        path.write_bytes(b"this is no database, and no SQLite will say that it is" * 100)
        await held.settle(USED, outcome="ok")
        await b.meter.flush()
        with pytest.raises(CarrelError):
            await b.hold(2)
        path.write_bytes(kept)
        await b.meter.flush()
        await b.call(3)
        assert sorted(row.request_id for row in await b.rows()) == ["req_1", "req_3"]


async def test_rows_that_come_while_others_are_entered_wait_for_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        book = b.meter._book
        write, go, entered = book._write, threading.Event(), list[int]()

        def slow(tenant: TenantId, rows: Sequence[Values]) -> dict[str, Sums]:
            entered.append(len(rows))
            assert go.wait(PATIENCE)
            return write(tenant, rows)

        monkeypatch.setattr(book, "_write", slow)
        for number in range(3):
            await b.call(number)
        flushing = asyncio.create_task(b.meter.flush())
        await eventually(lambda: entered)
        for number in range(3, 8):
            await b.call(number)
        go.set()
        await flushing
        assert entered == [3]
        assert len(book._pending[b.tenant.id]) == 5
        assert sum(row.tool_calls + 1 for row in await b.rows()) == 8
        assert entered == [3, 5]
        assert not book._pending


async def test_rows_that_a_read_was_entering_are_counted_also_where_nobody_waits_for_it_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        book = b.meter._book
        write, begun, go = book._write, threading.Event(), threading.Event()

        def slow(tenant: TenantId, rows: Sequence[Values]) -> dict[str, Sums]:
            begun.set()
            assert go.wait(PATIENCE)
            return write(tenant, rows)

        monkeypatch.setattr(book, "_write", slow)
        await b.call(1)
        reading = asyncio.create_task(b.meter.report(b.tenant, b.period()))
        await eventually(begun.is_set)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        go.set()
        assert len(await b.rows()) == 1
        assert b'carrel_tokens_total{class="input",model="demo",tenant="acme"} 10.0' in b.metrics.render()


def broken(state: Path) -> bytes:
    """Break the tenant's ledger, which nobody has open; what it was."""
    path = state / LEDGER
    kept = path.read_bytes()
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(b"this is no database, and no SQLite will say that it is" * 100)
    return kept


def of_later_schema(state: Path) -> bytes:
    """Make the ledger one of a later Carrel's; what it was."""
    path = state / LEDGER
    kept = path.read_bytes()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 999)
    connection.pragma("wal_checkpoint(truncate)")
    connection.close()
    return kept


@pytest.mark.parametrize("harm", [broken, of_later_schema])
async def test_a_broken_ledger_holds_nobodys_journal_and_has_its_rows_once_it_opens_again(
    tmp_path: Path, harm: Callable[[Path], bytes]
) -> None:
    async with bench(tmp_path, crash=True, segment_bytes=4096) as b:
        await b.call(1)
        held = await b.hold(2)
        await b.meter.forget(b.tenant.id)
        kept = harm(tmp_path)
        await held.settle(USED, outcome="ok")
        await b.meter.flush()
        await b.meter.flush()
        assert (tmp_path / WAITING).read_text().count("req_2") == 1
        other = make_tenant(tmp_path, "other")
        for number in range(60):
            call = await b.meter.reserve(other, b.snapshot, Call(RequestId(f"o{number}"), "demo", 1, 1))
            await call.settle(USED, outcome="ok")
            await b.meter.flush()
        journal = b.meter._journal
        assert not journal._full
        assert not journal._unapplied
        other.root.close()
    async with bench(tmp_path, crash=True, quotas=Quotas(tokens_per_day=1000)) as b:
        await b.meter.flush()
        assert (tmp_path / WAITING).read_text().count("req_2") == 1, "they are here, and not written anew"
        with pytest.raises(CarrelError):
            await b.hold(3)
        (tmp_path / LEDGER).write_bytes(kept)
        assert [row.request_id for row in await b.rows()] == ["req_1", "req_2"]
        assert not (tmp_path / WAITING).exists()
        [quota] = await b.meter.quota_status(b.tenant)
        assert quota.used == 2 * USED.total
    async with bench(tmp_path) as b:
        assert len(await b.rows()) == 2
        assert (await b.meter.recount(b.tenant)).wrong == ()


async def test_rows_that_waited_in_a_file_are_entered_once_also_where_a_death_left_it(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold(1)
        await b.meter.rows(b.tenant, b.period())
        await b.meter.forget(b.tenant.id)
        kept = broken(tmp_path)
        await held.settle(USED, outcome="ok")
        await b.meter.flush()
        waiting = (tmp_path / WAITING).read_bytes()
        (tmp_path / LEDGER).write_bytes(kept)
        assert len(await b.rows()) == 1
    (tmp_path / WAITING).write_bytes(waiting)
    async with bench(tmp_path) as b:
        assert len(await b.rows()) == 1
        assert not (tmp_path / WAITING).exists()


async def test_a_recount_ends_with_whoever_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(tmp_path) as b:
        await b.call(1)
        await b.rows()
        begun, ended = threading.Event(), list[BaseException]()
        real = recounts._wrong_of_day

        def endless(connection: apsw.Connection, day: date, counting: Counting) -> set[tuple[str, str]]:
            begun.set()
            try:
                # As a day of very many calls: SQLite is at it for ever.
                connection.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) SELECT sum(x) FROM n")
            except BaseException as error:
                ended.append(error)
                raise
            return set()

        monkeypatch.setattr(recounts, "_wrong_of_day", endless)
        counting = asyncio.create_task(b.meter.recount(b.tenant))
        await eventually(begun.is_set)
        first = b.meter.counting(b.tenant)
        # The next one waits for it, and holds up nothing else.
        next_one = asyncio.create_task(b.meter.recount(b.tenant))
        assert len(await b.rows()) == 1
        assert b.meter.counting(b.tenant) is first is not None
        counting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await counting
        await eventually(lambda: ended)
        assert b.meter.counting(b.tenant) not in (first, None), "the next one's is told"
        monkeypatch.setattr(recounts, "_wrong_of_day", real)
        next_one.cancel()
        assert await b.meter.recount(b.tenant) == Recount(1, ())
        assert b.meter.counting(b.tenant) is None


async def test_a_row_that_a_failing_disk_kept_after_all_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        book = b.meter._book
        write = book._write

        def kept_all_the_same(tenant: TenantId, rows: Sequence[Values]) -> dict[str, Sums]:
            write(tenant, rows)
            raise StorageFailed("the commit's sync failed; the log of the database has it")

        with monkeypatch.context() as patched:
            patched.setattr(book, "_write", kept_all_the_same)
            await b.call(1)
            period = b.period()
            assert [sums.calls for sums in (await book.sums(b.tenant.id, period)).values()] == [1]
            assert [sums.calls for sums in (await book.sums_split(b.tenant.id, period, "agent")).values()] == [1]
            assert len(book._pending[b.tenant.id]) == 1
        assert len(await b.rows()) == 1


async def test_a_tenant_with_a_broken_ledger_can_be_let_go_of_and_its_rows_are_kept(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold(1)
        await b.meter.rows(b.tenant, b.period())
        await b.meter.forget(b.tenant.id)
        broken(tmp_path)
        await held.settle(USED, outcome="ok")
        await b.meter.forget(b.tenant.id)
        assert b.meter._book.open_ledgers == 0
        (tmp_path / "tenants/acme").rename(tmp_path / "removed")
        await b.meter.flush()
        assert not b.meter._book._pending
        assert '"request_id": "req_1"' in (tmp_path / "metering/orphans.jsonl").read_text()
        assert not (tmp_path / WAITING).exists()


async def test_nothing_is_written_while_a_directory_is_exchanged(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold(1)
        await b.meter.rows(b.tenant, b.period())
        await b.meter.rest(b.tenant.id)
        kept = broken(tmp_path)
        (tmp_path / "tenants/acme").rename(tmp_path / "away")
        await held.settle(USED, outcome="ok")
        await b.meter.flush()
        (tmp_path / "away").rename(tmp_path / "tenants/acme")
        (tmp_path / LEDGER).write_bytes(kept)
        await b.meter.wake(b.tenant.id)
        assert [row.request_id for row in await b.rows()] == ["req_1"]
        assert not (tmp_path / "metering/orphans.jsonl").exists()


async def test_where_no_file_can_be_written_either_the_journal_keeps_the_rows(tmp_path: Path) -> None:
    async with bench(tmp_path, crash=True) as b:
        held = await b.hold(1)
        await b.meter.rows(b.tenant, b.period())
        await b.meter.forget(b.tenant.id)
        kept = broken(tmp_path)
        (tmp_path / "metering/waiting").touch()
        await held.settle(USED, outcome="ok")
        await b.meter.flush()
        assert b.meter._journal._unapplied
    (tmp_path / "metering/waiting").unlink()
    (tmp_path / LEDGER).write_bytes(kept)
    async with bench(tmp_path) as b:
        assert len(await b.rows()) == 1
