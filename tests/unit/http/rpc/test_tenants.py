"""`health` and `tenants.*`."""

from decimal import Decimal
from typing import Any

import pytest

from carrel.metering.report import ReportRow
from carrel.policy.periods import Period, months_back
from carrel.tenancy.handle import Tenant
from tests.fakes.edge import Edge, quota
from tests.unit.http.rpc.conftest import Rpc


async def test_health_and_get(rpc: Rpc) -> None:
    health = await rpc("health", {"probe": True})
    assert (health["ok"], health["agents"], health["sessions"]) == (True, ["main"], {"count": 0, "recent": []})
    tenant = await rpc("tenants.get", {"tenantId": "acme"})
    assert (tenant["tenantId"], tenant["disabled"], tenant["agents"]) == ("acme", False, ["main"])


async def test_usage_sums_exactly(rpc: Rpc) -> None:
    usage = await rpc("tenants.usage", {"period": "today"})
    assert usage["totalTokens"] == 16
    assert usage["totalCostUsd"] == "0.000123"
    assert usage["totalCostCents"] == 0
    assert usage["rows"] == [{
        "date": "2026-03-01", "tenant": "acme", "model": "demo", "tokens_in": 10, "tokens_out": 5, "tokens_cached": 1,
        "reasoning_tokens": 0, "tool_calls": 2, "cost_usd": "0.000123",
    }]  # fmt: skip


async def test_quotas_in_per_cent(edge: Edge, rpc: Rpc) -> None:
    edge.meter.quotas = [
        quota("tokens_per_day", 50, hard=200),
        quota("tokens_per_month", 60, hard=100, soft=50),
        quota("cost_per_day_usd", Decimal("1.50"), hard=Decimal("1.5")),
        quota("requests_per_minute", 3),
    ]
    status = await rpc("tenants.quota.status")
    assert (status["tokenUsagePercent"], status["costUsagePercent"]) == (60.0, 100.0)
    assert (status["isOverTokenLimit"], status["isOverCostLimit"], status["isBlocked"]) == (False, True, True)
    assert status["quotas"][1]["overSoft"] is True
    assert status["quotas"][2]["used"] == "1.5"


async def test_a_limit_of_nothing_is_full(edge: Edge, rpc: Rpc) -> None:
    edge.meter.quotas = [quota("tokens_per_day", 0, hard=0)]
    status = await rpc("tenants.quota.status")
    assert (status["tokenUsagePercent"], status["isBlocked"]) == (100.0, True)


async def test_the_disk_is_a_quota_like_others_that_blocks_no_call(edge: Edge, rpc: Rpc) -> None:
    edge.disk.quotas = [quota("disk_bytes", 150, hard=100), quota("snapshots_bytes", 5, hard=50)]
    status = await rpc("tenants.quota.status")
    assert (status["diskUsagePercent"], status["isOverDiskLimit"], status["isBlocked"]) == (150.0, True, False)
    assert [(one["name"], one["used"], one["overHard"]) for one in status["quotas"]] == [
        ("disk_bytes", "150", True), ("snapshots_bytes", "5", False)
    ]  # fmt: skip
    assert "diskBytes" not in await rpc("tenants.usage"), "it is measured for who asks"
    usage = await rpc("tenants.usage", {"refreshDisk": True})
    assert (usage["diskBytes"], usage["diskFiles"]) == (4096, 2)


async def test_how_the_tenant_stands(rpc: Rpc) -> None:
    told = await rpc("tenants.status")
    assert (told["tenantId"], told["state"], told["appliedRevision"]) == ("acme", "Ready", "a")
    assert told["conditions"][0]["lastTransitionMs"] == 1772323200000


async def test_the_months_before_are_told(edge: Edge, rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    months = months_back(3, edge.services.clock.now())

    async def report(tenant: Tenant, period: Period, **_: object) -> list[ReportRow]:
        assert (period.first, period.last) == (months[2].first, months[0].last)
        costs = {months[0].last: "1.005", months[2].first: "0.001", months[2].last: "0.002"}
        return [ReportRow(day, tenant.id, "demo", 2, 3, 4, 5, 6, Decimal(cost)) for day, cost in costs.items()]

    monkeypatch.setattr(edge.meter, "report", report)
    told = (await rpc("tenants.usage.history", {"months": 3}))["history"]
    assert [one["month"] for one in told] == [f"{month.first:%Y-%m}" for month in months]
    assert [one["totalTokens"] for one in told] == [14, 0, 28]
    assert [(one["totalCostUsd"], one["totalCostCents"]) for one in told] == [("1.005", 101), ("0", 0), ("0.003", 0)]
    assert (await rpc("tenants.usage.history", {"months": 0}))["data"]["path"] == "months"


async def test_a_tenant_gives_itself_up_when_it_says_that_it_means_it(edge: Edge, rpc: Rpc) -> None:
    for params in ({}, {"confirm": False}):
        assert (await rpc("tenants.delete", params))["data"]["path"] == "confirm"
    assert (await rpc("tenants.delete", {"confirm": True, "tenantId": "bravo"}))["data"]["code"] == "forbidden"
    administration: Any = edge.services.administration
    assert administration.asked == []
    assert await rpc("tenants.delete", {"confirm": True}) == {"deleted": True, "tenantId": "acme"}
    assert [one[:2] for one in administration.asked] == [("remove", "acme")]
