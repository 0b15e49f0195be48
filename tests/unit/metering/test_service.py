import asyncio
import errno
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import apsw
import pytest

from carrel.clock import SystemClock
from carrel.declare.quotas import CountLimit, MoneyLimit, Quotas
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError, InvalidRequest, QuotaExceeded, StorageFailed, StorageFull
from carrel.ids import RequestId, SessionId
from carrel.metering.protocol import Call, ToolEnding
from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.patience import eventually
from tests.fakes.tenants import make_tenant
from tests.unit.metering.harness import USED, bench


async def test_a_settled_call_is_one_exact_row(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold(session_id=SessionId("s_1"), agent="main")
        await held.settle(USED, outcome="ok", provider_request_id="vendor\t\x1b\u20ac-1", tool_calls=2)
        [row] = await b.rows()
        assert row.timestamp == b.clock.now()
        assert (row.request_id, row.provider_request_id, row.session_id, row.agent) == (
            "req_1", "vendor-1", "s_1", "main",
        )  # fmt: skip
        assert (row.input_tokens, row.cache_read_tokens, row.cache_write_tokens) == (10, 5, 2)
        assert (row.output_tokens, row.reasoning_tokens, row.tool_calls) == (20, 3, 2)
        assert row.cost_usd == Decimal("0.00007875")
        assert '"markup":"1.25"' in row.rate_snapshot
        assert row.rate_card_hash == "c" * 64
        assert (row.outcome, row.byo, row.estimated) == ("ok", False, False)


async def test_the_ledger_shows_the_contracts_names_and_takes_no_change(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.call()
        await b.meter.flush()
    connection = apsw.Connection(str(tmp_path / "tenants/acme/usage/ledger.sqlite"))
    [row] = connection.execute(
        "SELECT timestamp, request_id, provider_request_id, session_id, agent, model, input_tokens, "
        "cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, tool_calls, cost_usd, rate_snapshot, "
        "outcome FROM ledger"
    )
    assert row[0] == "2026-03-01T12:00:00.000000Z"
    assert row[12] == "0.00007875"
    for change in ("UPDATE calls SET cost_usd='0'", "DELETE FROM calls", "DELETE FROM rates"):
        with pytest.raises(apsw.ConstraintError, match="append-only"):
            connection.execute(change)
    connection.close()


async def test_a_second_settle_is_ignored(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold()
        await held.settle(USED, outcome="ok")
        await held.settle(USED, outcome="error")
        assert [row.outcome for row in await b.rows()] == ["ok"]


async def test_many_calls_at_once_cannot_pass_a_hard_quota(tmp_path: Path) -> None:
    used = 0
    async with bench(tmp_path, quotas=Quotas(tokens_per_day=5000)) as b:

        async def one(number: int) -> int:
            try:
                held = await b.hold(number, max_input=150, max_output=100)
            except QuotaExceeded:
                return 0
            await asyncio.sleep(0)
            spent = TokenCounts(input=number % 150 + 1, output=number * 7 % 101)
            await held.settle(spent, outcome="ok")
            return spent.total

        for _ in range(40):
            used += sum(await asyncio.gather(*(one(n) for n in range(200))))
        assert 4000 < used <= 5000
        [state] = await b.meter.quota_status(b.tenant)
        assert (state.name, state.used, state.reserved, state.hard) == ("tokens_per_day", used, 0, 5000)


async def test_dollars_are_held_too(tmp_path: Path) -> None:
    async with bench(tmp_path, quotas=Quotas(cost_per_day_usd=Decimal("0.00075"))) as b:
        first = await b.hold(1)
        second = await b.hold(2)
        with pytest.raises(QuotaExceeded) as refused:
            await b.hold(3)
        assert refused.value.quota == "cost_per_day_usd"
        assert refused.value.retry_after == 2
        assert refused.value.reset_at == datetime(2026, 3, 2, tzinfo=UTC)
        await first.settle(TokenCounts(), outcome="error")
        third = await b.hold(3)
        await second.settle(USED, outcome="ok")
        await third.settle(USED, outcome="ok")


async def test_a_months_quota_spans_its_days(tmp_path: Path) -> None:
    async with bench(tmp_path, quotas=Quotas(tokens_per_month=300)) as b:
        await b.call(1, TokenCounts(input=150))
        b.clock.advance(86_400)
        with pytest.raises(QuotaExceeded):
            await b.hold(2)
        await b.call(3, TokenCounts(input=10), max_output=20)
        b.clock.advance(31 * 86_400)
        await b.call(4)


async def test_quotas_outlive_a_restart(tmp_path: Path) -> None:
    quotas = Quotas(tokens_per_day=300)
    async with bench(tmp_path, quotas=quotas) as b:
        await b.call(1, TokenCounts(input=150))
    async with bench(tmp_path, quotas=quotas) as b:
        with pytest.raises(QuotaExceeded):
            await b.hold(2)
        await b.call(3, TokenCounts(input=10), max_output=20)


async def test_a_clock_set_back_does_not_open_a_day_again(tmp_path: Path) -> None:
    clock = FakeClock(datetime(2026, 3, 2, 0, 0, 30, tzinfo=UTC))
    async with bench(tmp_path, clock=clock, quotas=Quotas(tokens_per_day=300)) as b:
        await b.call(1, TokenCounts(input=150))
        clock.jump(-60)
        with pytest.raises(QuotaExceeded):
            await b.hold(2)
        clock.jump(60)
        clock.advance(86_400)
        await b.call(3)
        clock.jump(-40 * 86_400)
        await b.call(4)
        days = {row.timestamp.date() for row in await b.rows("2026-01-01..2026-03-31")}
        assert days == {date(2026, 3, 2), date(2026, 3, 3), date(2026, 1, 22)}


@pytest.mark.parametrize("seconds", [90, -90, 40 * 86_400, -40 * 86_400])
async def test_a_clock_that_jumps_while_calls_are_in_flight_loses_and_doubles_no_row(
    tmp_path: Path, seconds: float
) -> None:
    clock = FakeClock(datetime(2026, 3, 2, 0, 0, 30, tzinfo=UTC))
    async with bench(tmp_path, clock=clock, crash=True) as b:
        settled, _ = await b.hold(1), await b.hold(2)
        clock.jump(seconds)
        await settled.settle(USED, outcome="ok")
        await b.call(3)
    clock.jump(-2 * seconds)
    async with bench(tmp_path, clock=clock) as b:
        await b.call(4)
        ever = "2025-12-01..2026-05-31"
        rows = await b.rows(ever)
        assert sorted((row.request_id, row.outcome) for row in rows) == [
            ("req_1", "ok"), ("req_2", "interrupted"), ("req_3", "ok"), ("req_4", "ok")
        ]  # fmt: skip
        told = await b.meter.report(b.tenant, b.period(ever))
        assert sum(day.cost_usd for day in told) == sum(row.cost_usd for row in rows)
        assert {status.reserved for status in await b.meter.quota_status(b.tenant)} <= {0, Decimal(0)}


async def test_sliding_windows_do_not_mind_the_wall_clock(tmp_path: Path) -> None:
    async with bench(tmp_path, quotas=Quotas(requests_per_minute=2, requests_per_hour=3)) as b:
        await b.meter.admit_request(b.tenant)
        await b.meter.admit_request(b.tenant)
        b.clock.jump(3600)
        with pytest.raises(QuotaExceeded, match="requests_per_minute"):
            await b.meter.admit_request(b.tenant)
        b.clock.jump(-7200)
        b.clock.advance(61)
        await b.meter.admit_request(b.tenant)
        with pytest.raises(QuotaExceeded, match="requests_per_hour"):
            await b.meter.admit_request(b.tenant)


async def test_soft_quotas_let_through(tmp_path: Path) -> None:
    quotas = Quotas(
        tokens_per_day=CountLimit(soft=1), cost_per_day_usd=MoneyLimit(soft=Decimal(0)),
        requests_per_minute=CountLimit(soft=0),
    )  # fmt: skip
    async with bench(tmp_path, quotas=quotas) as b:
        await b.meter.admit_request(b.tenant)
        await b.call()
        assert len(await b.meter.quota_status(b.tenant)) == 3


async def test_a_model_without_a_price_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, quotas=Quotas(tokens_per_day=10**6)) as b:
        with pytest.raises(InvalidRequest, match="has no price"):
            await b.meter.reserve(b.tenant, b.snapshot, Call(RequestId("r"), "nope", 1, 1))
        [state] = await b.meter.quota_status(b.tenant)
        assert state.reserved == 0


async def test_a_report_has_the_contracts_columns_and_adds_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.call(1)
        await b.call(2)
        b.clock.advance(86_400)
        await b.call(3)
        assert await b.meter.csv(b.tenant, parse_period("2026-03-01..2026-03-02", b.clock.now())) == (
            "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,cost_usd\n"
            "2026-03-01,acme,demo,24,40,10,6,0,0.0001575\n"
            "2026-03-02,acme,demo,12,20,5,3,0,0.00007875\n"
        )
        total = await b.meter.usage(b.tenant, b.period())
        assert (total.tokens, total.cost_usd) == (120, Decimal("0.00023625"))
        assert b'carrel_tokens_total{class="input",model="demo",tenant="acme"} 30.0' in b.metrics.render()


async def test_rows_come_in_pages(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for number in range(7):
            await b.call(number)
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = await b.meter.rows(b.tenant, b.period(), cursor=cursor, limit=3)
            seen += [row.request_id for row in page]
            if cursor is None:
                break
        assert seen == [f"req_{n}" for n in range(7)]
        with pytest.raises(InvalidRequest):
            await b.meter.rows(b.tenant, b.period(), cursor="1; DROP TABLE calls")


async def test_calls_in_flight_at_the_end_become_interrupted_rows(tmp_path: Path) -> None:
    async with bench(tmp_path, crash=True) as b:
        await b.hold(1, max_input=1024 + 400, max_output=100)
        await b.call(2)
    for _ in range(2):
        async with bench(tmp_path) as b:
            rows = {row.request_id: row for row in await b.rows()}
            assert set(rows) == {"req_1", "req_2"}
            assert (rows["req_1"].outcome, rows["req_1"].estimated) == ("interrupted", True)
            assert (rows["req_1"].input_tokens, rows["req_1"].output_tokens) == (100, 0)
            assert rows["req_2"].outcome == "ok"
            [day] = await b.meter.report(b.tenant, b.period())
            assert day.tokens_in == 112
    assert not list((tmp_path / "metering").glob("*.journal"))


async def test_calls_open_at_a_clean_end_are_interrupted_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.hold(1)
    async with bench(tmp_path) as b:
        assert [row.outcome for row in await b.rows()] == ["interrupted"]


async def test_a_cancelled_settle_is_written(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        held = await b.hold()
        task = asyncio.create_task(held.settle(USED, outcome="cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [row.outcome for row in await b.rows()] == ["cancelled"]


async def test_files_of_the_journal_are_replaced_and_removed(tmp_path: Path) -> None:
    async with bench(tmp_path, segment_bytes=20_000) as b:
        old = await b.hold(0)
        for batch in range(10):
            await asyncio.gather(*(b.call(batch * 100 + n + 1) for n in range(50)))
            await b.meter.flush()
            assert len(list((tmp_path / "metering").glob("*.journal"))) <= 3
        await old.settle(USED, outcome="ok")
        assert len(await b.rows()) == 501
    assert not list((tmp_path / "metering").glob("*.journal"))


class Disk:
    """A disk that takes nothing while it is told so."""

    def __init__(self, code: int) -> None:
        self.fails = False
        self.code = code

    def sync(self, fd: int) -> None:
        if self.fails:
            raise OSError(self.code, os.strerror(self.code))
        os.fdatasync(fd)


@pytest.mark.parametrize(("code", "kind"), [(errno.ENOSPC, StorageFull), (errno.EIO, StorageFailed)])
async def test_a_commit_that_fails_is_kept_and_made_later(tmp_path: Path, code: int, kind: type[CarrelError]) -> None:
    disk = Disk(code)
    async with bench(tmp_path, sync=disk.sync, quotas=Quotas(tokens_per_day=10**6)) as b:
        await b.call(1)
        first, second = await b.hold(2), await b.hold(3)
        disk.fails = True
        for refused in (first.settle(USED, outcome="ok"), second.settle(USED, outcome="ok"), b.hold(4)):
            with pytest.raises(CarrelError) as told:
                await refused
            assert type(told.value) is kind
        assert len(await b.rows()) == 3
        disk.fails = False
        b.clock.advance(2)
        await eventually(lambda: b.meter._journal._failed is None)
        await b.call(5)
        assert sorted(row.request_id for row in await b.rows()) == ["req_1", "req_2", "req_3", "req_5"]
        [state] = await b.meter.quota_status(b.tenant)
        assert (state.used, state.reserved) == (160, 0)


async def test_a_start_opens_no_ledger_and_who_asks_finds_all(tmp_path: Path) -> None:
    async with bench(tmp_path, crash=True) as b:
        await b.call(1)
        await b.hold(2)
    serving = asyncio.Event()
    async with bench(tmp_path, serving=serving) as b:
        b.clock.advance(10)
        await asyncio.sleep(0)
        assert b.meter._book.open_ledgers == 0
        assert sorted(row.outcome for row in await b.rows()) == ["interrupted", "ok"]
        assert b.meter._book.open_ledgers == 1
    async with bench(tmp_path, crash=True) as b:
        await b.hold(3)
    async with bench(tmp_path, serving=serving) as b:
        serving.set()
        while not b.meter._book.open_ledgers:
            b.clock.advance(1)
            await asyncio.sleep(0.005)
        assert len(await b.rows()) == 3


async def test_rows_of_a_tenant_without_a_directory_are_kept(tmp_path: Path) -> None:
    async with bench(tmp_path, crash=True) as b:
        await b.call(1)
    (tmp_path / "tenants/acme").rename(tmp_path / "tenants/gone")
    async with bench(tmp_path / "elsewhere") as b:
        assert not await b.rows()
    other = make_tenant(tmp_path, "other")
    other.root.close()
    tasks = Tasks("test")
    meter = Metering(state_dir=tmp_path, clock=SystemClock(), tasks=tasks, metrics=Metrics())
    await meter.start()
    await meter.close()
    await tasks.close()
    assert '"request_id": "req_1"' in (tmp_path / "metering/orphans.jsonl").read_text()


async def test_ledgers_are_opened_when_they_are_needed_and_closed_again(tmp_path: Path) -> None:
    async with bench(tmp_path, open_ledgers=2) as b:
        for name in ("a", "b", "c", "d"):
            tenant = make_tenant(tmp_path, name)
            held = await b.meter.reserve(tenant, b.snapshot, Call(RequestId("r"), "demo", 1, 1))
            await held.settle(USED, outcome="ok")
            assert len(await b.meter.report(tenant, b.period())) == 1
            tenant.root.close()
        assert b.meter._book.open_ledgers == 2
        await b.meter.forget(b.tenant.id)


async def test_a_limit_that_ended_a_tool_is_beside_the_calls(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.call()
        await b.meter.tool_ended(b.tenant, ToolEnding("req_1", "s_1", "main", "shell", "c1", "disk_quota", 0.25))
        assert len(await b.rows()) == 1, "no call, and no cost"
    connection = apsw.Connection(str(tmp_path / "tenants/acme/usage/ledger.sqlite"))
    assert list(connection.execute("SELECT request_id, tool, outcome, seconds FROM tool_endings")) == [
        ("req_1", "shell", "disk_quota", 0.25)
    ]
    connection.close()


async def test_a_report_by_member_has_every_settled_call_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        ada = replace(b.tenant, member="ada")
        for number, tenant in enumerate((ada, b.tenant, ada)):
            asked = Call(RequestId(f"req_{number}"), "demo", 100, 100)
            await (await b.meter.reserve(tenant, b.snapshot, asked)).settle(USED, outcome="ok")
        rows = await b.meter.report(b.tenant, b.period("today"), split="member")
        assert {row.key: row.tokens_in for row in rows} == {"": 12, "ada": 24}
        [whole] = await b.meter.report(b.tenant, b.period("today"))
        assert sum(row.cost_usd for row in rows) == whole.cost_usd
