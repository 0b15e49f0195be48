from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.billing import PlanBilling
from carrel.declare.rate_card import LongPrompt, PromptRates, RateCard, Rates, Tier, TokenCounts
from carrel.errors import CarrelError
from carrel.metering.invoice import invoice
from carrel.metering.rollups import Charged, Sums
from carrel.policy.periods import ONE_DAY, parse_period
from carrel.policy.pricing import price_for, price_in, tier_in
from tests.unit.metering.test_ledger import MARCH, NOON

CARD = RateCard(
    markup=Decimal("1.20"), otherwise=Rates(input=Decimal(9), output=Decimal(9)),
    models={"m": Rates(
        input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3"), cache_write=Decimal("3.75"),
        cache_write_1h=Decimal(6), batch=PromptRates(input=Decimal("1.5"), output=Decimal("7.5")),
        priority=PromptRates(input=Decimal(6), output=Decimal(30)),
        long_prompts=(LongPrompt(over_tokens=1000, input=Decimal(6), output=Decimal("22.5")),),
    )},
)  # fmt: skip


def charged(
    counts: TokenCounts, *, model: str = "m", byo: bool = False, at: Tier | None = None
) -> Mapping[Charged, Sums]:
    price = price_for(CARD, model, byo=byo, tier=at)
    assert price_in(price.snapshot) == price
    tier = tier_in(price.snapshot, counts.prompt)
    of = Charged(model, price.snapshot, "c" * 64, "", "", byo, tier)
    return {of: Sums(1, counts, 0, price.cost(counts))}


def test_each_charge_explains_itself() -> None:
    sums = {
        **charged(TokenCounts(100, 20, 30, 40, 5, 10)), **charged(TokenCounts(900, 101, 0, 1)),
        **charged(TokenCounts(1), byo=True), **charged(TokenCounts(2, output=3), at="batch"),
        **charged(TokenCounts(4), at="priority"),        **charged(TokenCounts(7), model="unheard-of"),
    }  # fmt: skip
    made = invoice(sums, MARCH)
    assert {line.text for line in made.lines} == {
        "m: 1 call", "m: 1 call, prompts of more than 1,000 tokens", "m: 1 call, with your own key",
        "m: 1 call, served when there is room", "m: 1 call, served before others",
        "unheard-of: 1 call, at the rates for models that have none of their own",
    }  # fmt: skip
    [own] = [line for line in made.lines if line.text == "m: 1 call"]
    assert [part.text for part in own.parts] == [
        "100 input x $3/1M x 1.2 = $0.00036", "20 read from a cache x $0.3/1M x 1.2 = $0.0000072",
        "20 written to a cache x $3.75/1M x 1.2 = $0.00009",
        "10 written to a cache for an hour x $6/1M x 1.2 = $0.000072", "40 output x $15/1M x 1.2 = $0.00072",
        "5 reasoning x $15/1M x 1.2 = $0.00009",
    ]  # fmt: skip
    [byo] = [line for line in made.lines if line.of is not None and line.of.byo]
    assert (byo.amount, byo.parts[0].factor) == (Decimal(0), Decimal(0))
    assert made.total == sum((total.cost for total in sums.values()), Decimal(0))


def test_a_plan_may_pass_rates_through_and_take_a_fee_for_each_month() -> None:
    billing = PlanBilling(rule="pass_through", platform_fee_usd=Decimal("49.50"))
    assert price_for(CARD, "m", byo=False, billing=billing).input == Decimal("0.000003")
    quarter = parse_period("2026-01-15..2026-04-01", NOON)
    made = invoice({}, quarter, plan="team", billing=billing)
    [fee] = made.lines
    assert fee.text == "Platform fee of the plan team: 3 x $49.5, for each month that begins in the period"
    assert (fee.amount, made.total) == (Decimal("148.5"), Decimal("148.5"))
    assert invoice({}, parse_period("2026-03-02..2026-03-31", NOON), plan="team", billing=billing).lines == ()


@pytest.mark.parametrize(("period", "amount", "said"), [
    ("2026-03-01..2026-03-31", "16.32", "from 2026-03-20 on: 12 of 31 days, $42.17 x 12/31 = $16.32, parts of a cent"),
    ("2026-03-20..2026-03-20", "16.32", "12 of 31 days"),
    ("2026-03-01..2026-03-19", "0", None), ("2026-03-21..2026-03-31", "0", None), ("2026-02-01..2026-02-28", "0", None),
    ("2026-04-01..2026-04-02", "42.17", "1 x $42.17, for each month that begins in the period"),
    ("2026-01-01..2026-05-31", "100.66", "2 x $42.17"),
])  # fmt: skip
def test_a_fee_is_owed_from_the_day_on_that_a_tenant_is_billed_from(period: str, amount: str, said: str | None) -> None:
    billing = PlanBilling(rule="pass_through", platform_fee_usd=Decimal("42.17"))
    made = invoice({}, parse_period(period, NOON), plan="team", billing=billing, billed_from=date(2026, 3, 20))
    assert made.total == Decimal(amount)
    assert said is None or any(said in line.text for line in made.lines)


def test_a_tenant_billed_from_a_first_owes_that_month_whole() -> None:
    billing = PlanBilling(rule="pass_through", platform_fee_usd=Decimal("42.17"))
    made = invoice({}, MARCH, plan="team", billing=billing, billed_from=date(2026, 3, 1))
    assert [line.amount for line in made.lines] == [Decimal("42.17")]


@given(st.dates(date(2025, 11, 1), date(2026, 5, 1)), st.dates(date(2026, 1, 2), date(2026, 3, 30)))
def test_invoices_that_follow_each_other_owe_what_one_does(start: date, cut: date) -> None:
    billing = PlanBilling(rule="pass_through", platform_fee_usd=Decimal("42.17"))

    def owed(text: str) -> Decimal:
        return invoice({}, parse_period(text, NOON), plan="t", billing=billing, billed_from=start).total

    assert owed(f"2026-01-01..{cut}") + owed(f"{cut + ONE_DAY}..2026-03-31") == owed("2026-01-01..2026-03-31")


def test_what_does_not_add_up_is_not_charged() -> None:
    [(of, sums)] = charged(TokenCounts(5)).items()
    with pytest.raises(CarrelError, match="do not add up"):
        invoice({of: Sums(1, sums.counts, 0, sums.cost + Decimal("0.000000001"))}, MARCH)


numbers = st.integers(min_value=0, max_value=1 << 40)


@given(st.lists(numbers, min_size=5, max_size=5), st.booleans(), st.sampled_from((None, "batch", "priority")))
def test_the_parts_always_make_the_price(tokens: list[int], byo: bool, at: Tier | None) -> None:
    read, cached, written, output, reasoning = tokens
    counts = TokenCounts(read, cached, written, output, reasoning, written // 3)
    made = invoice(charged(counts, byo=byo, at=at), MARCH)
    assert sum((part.amount for line in made.lines for part in line.parts), Decimal(0)) == made.total
