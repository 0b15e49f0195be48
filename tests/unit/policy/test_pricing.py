import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.billing import PlanBilling
from carrel.declare.rate_card import LongPrompt, PromptRates, RateCard, Rates, TokenCounts
from carrel.errors import InvalidRequest
from carrel.policy.pricing import (
    Terms,
    add,
    factor_for,
    plain,
    price,
    price_for,
    price_in,
    price_of,
    subtract,
    tier_in,
)

RATES = Rates(input=Decimal(3), output=Decimal(15), cache_read=Decimal("0.3"), cache_write=Decimal("3.75"))


@pytest.mark.parametrize(
    ("counts", "markup", "expected"),
    [
        (TokenCounts(), "1", "0"),
        (TokenCounts(input=1), "1", "0.000003"),
        (TokenCounts(input=1_000_000), "1", "3"),
        (TokenCounts(1000, 2000, 400, 500, 0), "1.25", "0.0157500"),
        (TokenCounts(reasoning=1), "1", "0.000015"),
        (TokenCounts(1, 1, 1, 1, 1), "1.333333333333333", "0.00004939999999999998765"),
        (TokenCounts(input=5), "0", "0"),
    ],
)
def test_prices(counts: TokenCounts, markup: str, expected: str) -> None:
    assert price(RATES, counts, Decimal(markup)) == Decimal(expected)


rates = st.decimals(min_value=0, max_value=10**6, allow_nan=False, allow_infinity=False, places=9)
numbers = st.integers(min_value=0, max_value=1 << 53)


@given(rates, rates, numbers, numbers, st.decimals(min_value=0, max_value=100, places=12))
def test_a_price_is_exact(first: Decimal, second: Decimal, tokens_in: int, tokens_out: int, markup: Decimal) -> None:
    found = price(Rates(input=first, output=second), TokenCounts(input=tokens_in, output=tokens_out), markup)
    exact = (Fraction(first) * tokens_in + Fraction(second) * tokens_out) * Fraction(markup) / 1_000_000
    assert Fraction(found) == exact


@given(rates, rates, numbers, numbers)
def test_the_worst_case_is_never_less(first: Decimal, second: Decimal, tokens_in: int, tokens_out: int) -> None:
    made = price_of(Rates(input=first, output=second, reasoning=first), Decimal("1.2"))
    worst = made.worst(tokens_in, tokens_out)
    assert worst >= made.cost(TokenCounts(input=tokens_in, output=tokens_out))
    assert worst >= made.cost(TokenCounts(cache_write=tokens_in, reasoning=tokens_out))


def test_the_snapshot_is_canonical_and_has_every_class() -> None:
    card = RateCard(markup=Decimal("1.20"), models={"m": RATES})
    text = price_for(card, "m", byo=False).snapshot
    assert text == (
        '{"currency":"USD","markup":"1.2","per_tokens":1000000,"rates":'
        '{"cache_read":"0.3","cache_write":"3.75","input":"3","output":"15","reasoning":"15"}}'
    )
    assert json.loads(text)["markup"] == "1.2"
    assert json.loads(price_for(card, "m", byo=True).snapshot)["markup"] == "0"
    assert price_in(text) == price_for(card, "m", byo=False)


def test_writes_for_an_hour_have_a_rate_of_their_own_or_that_of_writes() -> None:
    counts = TokenCounts(input=1, cache_write=10, cache_write_1h=4)
    assert price(RATES, counts, Decimal(1)) == Decimal("0.0000405"), "1 at 3, 10 at 3.75"
    hourly = RATES.model_copy(update={"cache_write_1h": Decimal(6)})
    assert price(hourly, counts, Decimal(1)) == Decimal("0.0000495"), "1 at 3, 6 at 3.75, 4 at 6"
    assert price(Rates(input=Decimal(2), output=Decimal(1)), counts, Decimal(1)) == Decimal("0.000022")
    made = price_of(hourly, Decimal(1))
    assert made.worst(10, 0) == Decimal("0.00006")
    assert json.loads(made.snapshot)["rates"]["cache_write_1h"] == "6"
    assert "cache_write_1h" not in price_of(RATES, Decimal(1)).snapshot, "what was not declared is not in it"
    assert price_in(made.snapshot) == made


LONG = Rates(
    input=Decimal(3), output=Decimal(15),
    long_prompts=(
        LongPrompt(over_tokens=200, input=Decimal(6), output=Decimal("22.5")),
        LongPrompt(over_tokens=400, input=Decimal(9), output=Decimal(30), cache_read=Decimal(1)),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (TokenCounts(input=200, output=1000), "0.0156"),
        (TokenCounts(input=201, output=1), "0.0012285"),
        (TokenCounts(input=100, cache_read=80, cache_write=21, reasoning=1), "0.0012285"),
        (TokenCounts(input=1, cache_read=400), "0.000409"),
    ],
)
def test_a_long_prompt_prices_the_whole_call(counts: TokenCounts, expected: str) -> None:
    assert price(LONG, counts, Decimal(1)) == Decimal(expected)
    made = price_of(LONG, Decimal("1.2"))
    assert price_in(made.snapshot) == made
    assert made.worst(counts.prompt, counts.output + counts.reasoning) >= made.cost(counts)
    assert price_of(LONG, Decimal(1)).worst(200, 1) < price_of(LONG, Decimal(1)).worst(201, 1)


def test_a_model_without_a_price_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="has no price"):
        price_for(RateCard(), "m", byo=False)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "0"), ("0E-12", "0"), ("1E+3", "1000"), ("0.000000100", "0.0000001"), ("-1.50", "-1.5"), ("10", "10")],
)
def test_money_as_text(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


def test_sums_are_exact() -> None:
    tiny, huge = Decimal("1E-30"), Decimal("1E+9")
    assert plain(add(huge, tiny)) == "1000000000.000000000000000000000000000001"
    assert subtract(add(huge, tiny), huge) == tiny


def test_a_plan_has_its_own_factors() -> None:
    card = RateCard(markup=Decimal("1.2"), byo_markup=Decimal("0.1"), models={"m": RATES})
    own = PlanBilling(markup=Decimal("1.5"), byo_markup=Decimal("0.3"))
    through = PlanBilling(rule="pass_through")
    assert [factor_for(card, plan, byo=False) for plan in (None, PlanBilling(), own, through)] == [
        Decimal("1.2"), Decimal("1.2"), Decimal("1.5"), Decimal(1)
    ]  # fmt: skip
    assert [factor_for(card, plan, byo=True) for plan in (None, own, through)] == [
        Decimal("0.1"), Decimal("0.3"), Decimal("0.1")
    ]  # fmt: skip


def test_a_model_without_a_price_is_priced_by_the_rule_for_such_alone() -> None:
    card = RateCard(otherwise=RATES)
    made = price_for(card, "new", byo=False)
    assert (made.input, json.loads(made.snapshot)["rule"]) == (Decimal("0.000003"), "otherwise")
    with pytest.raises(InvalidRequest, match="no price"):
        price_for(RateCard(), "new", byo=False)


def test_calls_without_haste_have_rates_of_their_own_where_the_card_has_them() -> None:
    batch = PromptRates(input=Decimal("1.5"), output=Decimal("7.5"))
    card = RateCard(models={"m": RATES.model_copy(update={"batch": batch}), "n": RATES})
    made = price_for(card, "m", byo=False, tier="batch")
    assert (made.cache_read, made.output) == (Decimal("0.0000015"), Decimal("0.0000075"))
    assert Terms.of(made.snapshot, 0).marks == {"tier": "batch"}
    assert price_for(card, "n", byo=False, tier="batch") == price_for(card, "n", byo=False)


def test_calls_that_are_served_before_others_have_rates_of_their_own() -> None:
    dear = PromptRates(input=Decimal(6), output=Decimal(30))
    card = RateCard(models={"m": RATES.model_copy(update={"priority": dear}), "n": RATES})
    made = price_for(card, "m", byo=False, tier="priority")
    assert (made.cache_read, made.output) == (Decimal("0.000006"), Decimal("0.00003"))
    assert price_in(made.snapshot) == made
    assert Terms.of(made.snapshot, 0).marks == {"tier": "priority"}
    assert price_for(card, "n", byo=False, tier="priority") == price_for(card, "n", byo=False, tier="standard")


def test_long_prompts_of_calls_without_haste_have_rates_of_their_own() -> None:
    longer = LongPrompt(over_tokens=1000, input=Decimal(3), output=Decimal(9))
    batch = PromptRates(input=Decimal("1.5"), output=Decimal("7.5"), long_prompts=(longer,))
    made = price_for(RateCard(models={"m": RATES.model_copy(update={"batch": batch})}), "m", byo=False, tier="batch")
    assert made.cost(TokenCounts(input=1000)) == Decimal("0.0015")
    assert made.cost(TokenCounts(input=1001)) == Decimal("0.003003")
    assert made.worst(2000, 0) == Decimal("0.006")
    assert price_in(made.snapshot) == made
    assert Terms.of(made.snapshot, 1000).marks == {"tier": "batch"}
    assert tier_in(made.snapshot, 1001) == 1000
