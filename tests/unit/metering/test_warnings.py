from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from carrel.declare.quotas import CountLimit, MoneyLimit, Quotas
from carrel.errors import QuotaExceeded
from carrel.metering.warnings import SoftWarning, window_end
from tests.unit.metering.harness import bench

WALL = datetime(2026, 2, 27, 23, 59, 30, tzinfo=UTC)
SOFT = Quotas(
    tokens_per_day=CountLimit(soft=50), tokens_per_month=CountLimit(hard=1000, soft=90),
    cost_per_day_usd=MoneyLimit(soft=Decimal("0.00001")), requests_per_minute=CountLimit(soft=2),
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
        b.meter.passed(b.tenant, "disk_bytes", 7, 6)
        b.meter.passed(b.tenant, "disk_bytes", 8, 6)
        assert len(told) == 5
        clock = b.clock
    async with bench(tmp_path, quotas=SOFT, clock=clock) as b:
        b.meter.told = told.append
        await b.call(4)
        await b.meter.admit_request(b.tenant)
        b.meter.passed(b.tenant, "disk_bytes", 9, 6)
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
