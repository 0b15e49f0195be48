"""A call is held for the dearest tier that it may be served at, and priced by the one that it was."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from carrel.declare.quotas import MoneyLimit, Quotas
from carrel.declare.rate_card import PromptRates, Rates, Tier, TokenCounts
from carrel.errors import QuotaExceeded
from tests.fakes.tenants import make_snapshot
from tests.unit.metering.harness import Bench, bench

USED = TokenCounts(input=100, output=100)
RATES = Rates(
    input=Decimal(1), output=Decimal(2), batch=PromptRates(input=Decimal("0.5"), output=Decimal(1)),
    priority=PromptRates(input=Decimal(2), output=Decimal(4)),
)  # fmt: skip
COSTS = {"standard": Decimal("0.000375"), "batch": Decimal("0.0001875"), "priority": Decimal("0.00075")}


def declare(b: Bench, rates: Rates = RATES) -> None:
    card = make_snapshot().rate_card.model_copy(update={"models": {"demo": rates}})
    b.snapshot = replace(b.snapshot, rate_card=card)


@pytest.mark.parametrize("asked", [None, "standard", "batch", "priority"])
@pytest.mark.parametrize("served", ["standard", "batch", "priority", None])
async def test_what_was_served_is_what_is_priced(tmp_path: Path, asked: Tier | None, served: Tier | None) -> None:
    async with bench(tmp_path) as b:
        declare(b)
        held = await b.hold(tier=asked)
        await held.settle(replace(USED, served=served), outcome="ok")
        [row] = await b.rows()
        assert row.cost_usd == COSTS[served or asked or "standard"]
        assert not (await b.meter.recount(b.tenant)).wrong
        made = await b.meter.invoice(b.tenant, b.snapshot, b.period())
        assert made.total == row.cost_usd


@pytest.mark.parametrize(
    ("asked", "dearest"),
    [(None, "priority"), ("standard", "standard"), ("batch", "standard"), ("priority", "priority")],
)
async def test_the_worst_case_is_that_of_the_dearest_tier(tmp_path: Path, asked: Tier | None, dearest: str) -> None:
    for short, fits in ((Decimal(0), True), (Decimal("0.0000001"), False)):
        limit = COSTS[dearest] - short
        async with bench(tmp_path / str(fits), quotas=Quotas(cost_per_day_usd=MoneyLimit(hard=limit))) as b:
            declare(b)
            if fits:
                held = await b.hold(tier=asked)
                await held.settle(replace(USED, served=None), outcome="ok")
            else:
                with pytest.raises(QuotaExceeded):
                    await b.hold(tier=asked)


@pytest.mark.parametrize("asked", [None, "standard", "batch", "priority"])
@pytest.mark.parametrize("left_out", [("batch",), ("priority",), ("batch", "priority")], ids=str)
async def test_a_card_need_not_know_every_tier(tmp_path: Path, asked: Tier | None, left_out: tuple[str, ...]) -> None:
    async with bench(tmp_path) as b:
        declare(b, RATES.model_copy(update=dict.fromkeys(left_out)))
        held = await b.hold(tier=asked)
        await held.settle(replace(USED, served=asked), outcome="ok")
        [row] = await b.rows()
        assert row.cost_usd == COSTS["standard" if asked is None or asked in left_out else asked]


async def test_the_tier_outlives_a_crash(tmp_path: Path) -> None:
    async with bench(tmp_path, crash=True) as b:
        declare(b)
        held = await b.hold(1, tier="batch")
        await held.settle(replace(USED, served="standard"), outcome="ok")
        held = await b.hold(2, tier="batch")
        await held.settle(USED, outcome="ok")
        # One that broke off, and two that were under way.
        held = await b.hold(3)
        await held.settle(replace(USED, served="priority"), outcome="cut", estimated=True)
        for number, tier in ((4, None), (5, "batch")):
            await b.hold(number, tier=tier)
    async with bench(tmp_path) as b:
        rows = {row.request_id: row for row in await b.rows()}
        assert (rows["req_3"].cost_usd, rows["req_3"].outcome) == (COSTS["priority"], "cut")
        assert rows["req_4"].outcome == rows["req_5"].outcome == "interrupted"
        assert rows["req_4"].cost_usd == 2 * rows["req_5"].cost_usd > 0
        assert rows["req_1"].cost_usd == COSTS["standard"]
        assert rows["req_2"].cost_usd == COSTS["batch"]


async def test_a_tier_without_rates_has_the_models_own_and_is_told_of_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        declare(b, Rates(input=Decimal(1), output=Decimal(2)))
        with capture_logs() as logs:
            for number in range(2):
                held = await b.hold(number)
                await held.settle(replace(USED, served="priority"), outcome="ok")
        assert [row.cost_usd for row in await b.rows()] == [COSTS["standard"]] * 2
        assert sum("before others" in line["event"] for line in logs) == 1
