from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from carrel.declare.quotas import CountLimit, MoneyLimit, Quotas, SoftLimit
from carrel.errors import QuotaExceeded
from carrel.ids import SessionId
from carrel.metering.warnings import SoftWarning, window_end
from tests.unit.metering.harness import bench

WALL = datetime(2026, 2, 27, 23, 59, 30, tzinfo=UTC)
SOFT = Quotas(
    tokens_per_day=CountLimit(soft=50), tokens_per_month=CountLimit(hard=1000, soft=90),
    cost_per_day_usd=MoneyLimit(soft=Decimal("0.00001")), requests_per_minute=CountLimit(soft=2),
    disk_bytes=CountLimit(soft=6),
)  # fmt: skip


@pytest.mark.parametrize(
    ("quota", "end"),
    [
        ("tokens_per_day", datetime(2026, 2, 28, tzinfo=UTC)),
        ("disk_bytes", datetime(2026, 2, 28, tzinfo=UTC)),
        ("cost_per_month_usd", datetime(2026, 3, 1, tzinfo=UTC)),
        ("requests_per_minute", datetime(2026, 2, 28, 0, 0, 30, tzinfo=UTC)),
        ("requests_per_hour", datetime(2026, 2, 28, 0, 59, 30, tzinfo=UTC)),
    ],
)
def test_windows_end(quota: str, end: datetime) -> None:
    assert window_end(quota, WALL) == end


async def test_each_is_told_once_in_its_window_across_restarts_too(tmp_path: Path) -> None:
    told: list[SoftWarning] = []
    async with bench(tmp_path, quotas=SOFT, crash=True) as b:
        b.meter.told = told.append
        assert b.meter.soft_passed(b.tenant.id) == ()
        await b.call(1)
        assert [one.quota for one in told] == ["cost_per_day_usd"], "40 tokens are below 50"
        await b.call(2)
        await b.call(3)
        assert {one.quota: (one.used, one.soft) for one in told[1:]} == {
            "tokens_per_day": (80, 50), "tokens_per_month": (120, 90)
        }  # fmt: skip
        for _ in range(5):
            await b.meter.admit_request(b.tenant)
        assert told[-1] == SoftWarning(b.tenant.id, "requests_per_minute", 3, 2, told[-1].until)
        assert set(b.meter.soft_passed(b.tenant.id)) == {one.quota for one in told}
        b.meter.measured(b.tenant, "disk_bytes", 7)
        b.meter.measured(b.tenant, "disk_bytes", 8)
        assert len(told) == 5
        clock = b.clock
    async with bench(tmp_path, quotas=SOFT, clock=clock) as b:
        b.meter.told = told.append
        await b.call(4)
        await b.meter.admit_request(b.tenant)
        b.meter.measured(b.tenant, "disk_bytes", 9)
        assert len(told) == 5, "what was told before stays told"
        clock.advance(61)
        for _ in range(3):
            await b.meter.admit_request(b.tenant)
        clock.advance(86_400)
        await b.call(5)
        await b.call(6)
        assert [one.quota for one in told[5:]] == ["requests_per_minute", "cost_per_day_usd", "tokens_per_day"]
        text = b.metrics.render().decode()
        assert 'carrel_quota_warnings_total{quota="tokens_per_day",tenant="acme"} 1.0' in text


async def test_requests_are_counted_across_a_kill(tmp_path: Path) -> None:
    quotas = Quotas(requests_per_minute=3, requests_per_hour=5)
    async with bench(tmp_path, quotas=quotas, crash=True) as b:
        for _ in range(3):
            await b.meter.admit_request(b.tenant)
        clock = b.clock
    async with bench(tmp_path, quotas=quotas, clock=clock, crash=True) as b:
        with pytest.raises(QuotaExceeded, match="requests_per_minute"):
            await b.meter.admit_request(b.tenant)
        clock.advance(61)
        await b.meter.admit_request(b.tenant)
        await b.meter.admit_request(b.tenant)
    async with bench(tmp_path, quotas=quotas, clock=clock) as b:
        clock.advance(61)
        with pytest.raises(QuotaExceeded, match="requests_per_hour"):
            await b.meter.admit_request(b.tenant)


async def test_what_others_measure_is_told_and_named_as_long_as_it_is_passed(tmp_path: Path) -> None:
    told: list[SoftWarning] = []
    quotas = Quotas(disk_files=CountLimit(soft=10), sandbox_memory_bytes=SoftLimit(soft=1000))
    async with bench(tmp_path, quotas=quotas) as b:
        b.meter.told = told.append
        b.meter.measured(b.tenant, "disk_files", 10)
        b.meter.measured(b.tenant, "sandbox_pids", 500)
        assert (told, b.meter.soft_passed(b.tenant.id)) == ([], ()), (
            "at the limit is not over it, and one is not declared"
        )
        b.meter.measured(b.tenant, "disk_files", 11)
        b.meter.measured(b.tenant, "sandbox_memory_bytes", 1001)
        assert [(one.quota, one.used, one.soft) for one in told] == [
            ("disk_files", 11, 10), ("sandbox_memory_bytes", 1001, 1000)
        ]  # fmt: skip
        assert b.meter.soft_passed(b.tenant.id) == ("disk_files", "sandbox_memory_bytes")
        states = {state.name: (state.used, state.hard, state.soft) for state in await b.meter.quota_status(b.tenant)}
        assert states == {"sandbox_memory_bytes": (1001, None, 1000)}, "the disk is told of by who measures it"
        b.meter.measured(b.tenant, "sandbox_memory_bytes", 900)
        b.meter.measured(b.tenant, "disk_files", 12)
        assert b.meter.soft_passed(b.tenant.id) == ("disk_files",)
        assert len(told) == 2, "once in its window"


async def test_sessions_with_a_turn_are_counted_each_once(tmp_path: Path) -> None:
    told: list[SoftWarning] = []
    quotas = Quotas(concurrent_sessions=CountLimit(hard=2, soft=1))
    one, two, three = (SessionId(f"s-{n}") for n in range(3))
    async with bench(tmp_path, quotas=quotas) as b:
        b.meter.told = told.append
        with b.meter.session(b.tenant, one), b.meter.session(b.tenant, one):
            assert b.meter.soft_passed(b.tenant.id) == (), "two turns of one session are one session"
            with b.meter.session(b.tenant, two):
                assert b.meter.soft_passed(b.tenant.id) == ("concurrent_sessions",)
                with (
                    pytest.raises(QuotaExceeded, match="concurrent_sessions") as refused,
                    b.meter.session(b.tenant, three),
                ):
                    pytest.fail("a third session")
                assert refused.value.retry_after == 2
                with b.meter.session(b.tenant, two):
                    pass
                [state] = await b.meter.quota_status(b.tenant)
                assert (state.name, state.used, state.hard, state.soft) == ("concurrent_sessions", 2, 2, 1)
            with b.meter.session(b.tenant, three):
                assert [(one.quota, one.used) for one in told] == [("concurrent_sessions", 2)]
        assert (await b.meter.quota_status(b.tenant))[0].used == 0
        with pytest.raises(RuntimeError), b.meter.session(b.tenant, one):
            raise RuntimeError
        assert (await b.meter.quota_status(b.tenant))[0].used == 0
