import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.metering.rollups import Sums
from carrel.metering.rows import Values
from tests.fakes.clock import FakeClock
from tests.fakes.patience import PATIENCE, eventually
from tests.unit.metering.harness import USED, bench


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
