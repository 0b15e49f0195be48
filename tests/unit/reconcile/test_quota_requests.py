import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound, RateLimited
from carrel.events.hub import Event, Hub, Subscription
from carrel.ids import RequestId, TenantId
from carrel.reconcile.quota_requests import FILE, QuotaRequests
from carrel.tenancy.handle import Tenant
from carrel.wire.control import Actor, QuotaUpdate
from carrel.wire.quotas import QuotaDecision, QuotaName
from tests.fakes.tenants import make_tenant
from tests.unit.reconcile.test_administration import Record

ASKS = Actor("tk_acme_12345678", RequestId("req_1"))
OPS = Actor("ak_ops", RequestId("req_2"))


@dataclass
class Declares:
    """Takes what is granted, or fails."""

    orders: list[QuotaUpdate] = field(default_factory=list)
    error: CarrelError | None = None

    async def quota_update(self, tenant_id: TenantId, order: QuotaUpdate, *, by: Actor) -> object:
        if self.error is not None:
            raise self.error
        self.orders.append(order)
        return None


class House:
    def __init__(self, state: Path) -> None:
        self.tenant: Tenant = make_tenant(state)
        self.record, self.declares, self.hub = Record(), Declares(), Hub(clock=SystemClock())
        self.told: list[Event] = []
        self.hub.subscribe(self.tenant, Subscription(None, ("quota",), self.told.append))
        self.service = self.again()

    def again(self) -> QuotaRequests:
        return QuotaRequests(clock=SystemClock(), audit=self.record, declares=self.declares, hub=self.hub)

    async def ask(self, quota: QuotaName, limit: str, request: str | None = None) -> str:
        made = await self.service.ask(
            self.tenant, quota=quota, limit=limit, reason="a launch", by=ASKS, request=request
        )
        return made.id


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.tenant.root.close()


async def test_what_is_approved_is_declared_and_told(house: House) -> None:
    request = await house.ask("tokens_per_day", "5000000")
    money = await house.ask("cost_per_month_usd", "99.50")
    decided = await house.service.decide(house.tenant, request, QuotaDecision(decision="approve"), by=OPS)
    assert (decided.state, decided.granted, decided.decided_by) == ("approved", "5000000", "ak_ops")
    less = QuotaDecision(decision="approve", limit=Decimal("80.00"), note="for now")
    assert (await house.service.decide(house.tenant, money, less, by=OPS)).granted == "80"
    assert [order.model_dump(exclude_unset=True) for order in house.declares.orders] == [
        {"tokens_per_day": 5_000_000}, {"cost_per_month_usd": Decimal(80)}
    ]  # fmt: skip
    assert [event.kind for event in house.told] == ["quota.asked", "quota.asked", "quota.decided", "quota.decided"]
    assert [line[0] for line in house.record.lines] == ["quota.ask", "quota.ask", "quota.decide", "quota.decide"]
    kept = await house.again().list(house.tenant)
    assert [(one.quota, one.state, one.note) for one in kept] == [
        ("tokens_per_day", "approved", ""), ("cost_per_month_usd", "approved", "for now")
    ]  # fmt: skip


async def test_what_is_rejected_changes_nothing_and_may_be_asked_again(house: House) -> None:
    request = await house.ask("requests_per_minute", "600")
    with pytest.raises(Conflict, match="waits already"):
        await house.ask("requests_per_minute", "700")
    await house.service.decide(house.tenant, request, QuotaDecision(decision="reject", note="no"), by=OPS)
    with pytest.raises(Conflict, match="rejected already"):
        await house.service.decide(house.tenant, request, QuotaDecision(decision="approve"), by=OPS)
    with pytest.raises(NotFound):
        await house.service.decide(house.tenant, "qr_x", QuotaDecision(decision="approve"), by=OPS)
    assert house.declares.orders == []
    assert await house.ask("requests_per_minute", "700") != request


async def test_what_cannot_be_declared_stays_undecided(house: House) -> None:
    request = await house.ask("tokens_per_day", "9")
    house.declares.error = InvalidRequest("The change was not made.")
    with pytest.raises(InvalidRequest):
        await house.service.decide(house.tenant, request, QuotaDecision(decision="approve"), by=OPS)
    assert [one.state for one in await house.service.list(house.tenant)] == ["waiting"]


async def test_a_limit_is_of_its_quotas_kind_and_few_requests_wait(house: House) -> None:
    with pytest.raises(InvalidRequest, match="whole number"):
        await house.ask("tokens_per_day", "1.5")
    absurd: dict[QuotaName, str] = {"cost_per_day_usd": "1000000000", "disk_bytes": "9007199254740992"}
    for quota, most in absurd.items():
        with pytest.raises(InvalidRequest, match=f"{most} at most"):
            await house.ask(quota, str(int(most) + 1))
    names: tuple[QuotaName, ...] = (
        "tokens_per_day", "tokens_per_month", "cost_per_day_usd", "cost_per_month_usd", "requests_per_second",
        "requests_per_minute", "requests_per_hour", "disk_bytes", "disk_files", "snapshots_bytes",
    )  # fmt: skip
    for name in names:
        await house.ask(name, "7")
    assert len(await house.service.all([house.tenant])) == 10
    with pytest.raises((RateLimited, Conflict)):
        await house.ask("tokens_per_day", "8")


async def test_asked_twice_under_one_id_or_at_once_it_is_one_request(house: House) -> None:
    first = await house.ask("tokens_per_day", "5", "qr_same")
    assert await house.ask("tokens_per_day", "5", "qr_same") == first
    outcomes = await asyncio.gather(*(house.ask("disk_bytes", str(n)) for n in range(8)), return_exceptions=True)
    assert sum(isinstance(one, str) for one in outcomes) == 1
    assert len(await house.service.list(house.tenant)) == 2


async def test_a_damaged_document_is_not_overwritten(house: House) -> None:
    house.tenant.root.replace(FILE, b"{")
    with pytest.raises(CarrelError, match="cannot be read"):
        await house.ask("tokens_per_day", "5")
    assert house.tenant.root.read(FILE, limit=10) == b"{"
