import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.declare.rate_card import RateCard, Rates, TokenCounts
from carrel.errors import InvalidRequest
from carrel.policy.pricing import add, plain, price, price_for, price_of, rate_snapshot, subtract

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
    text = rate_snapshot(card, "m", byo=False)
    assert text == (
        '{"currency":"USD","markup":"1.2","per_tokens":1000000,"rates":'
        '{"cache_read":"0.3","cache_write":"3.75","input":"3","output":"15","reasoning":"15"}}'
    )
    assert json.loads(text)["markup"] == "1.2"
    assert json.loads(rate_snapshot(card, "m", byo=True))["markup"] == "0"


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
