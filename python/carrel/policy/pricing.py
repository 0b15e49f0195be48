"""What tokens cost: exact, with no rounding anywhere. Knows no ledger and no clock."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, FloatOperation, Inexact, InvalidOperation, Overflow
from functools import reduce
from typing import Final

from carrel.declare.rate_card import RateCard, Rates, TokenCounts
from carrel.errors import InvalidRequest

_EXACT: Final = Context(prec=400, traps=[Inexact, FloatOperation, InvalidOperation, Overflow])
_PER_MILLION: Final = -6
_ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price at one time: US dollars of one token of each class with the markup in them, exact.

    ``snapshot`` is canonical JSON of the rates and the factor that made them, for the ledger.
    """

    input: Decimal
    cache_read: Decimal
    cache_write: Decimal
    output: Decimal
    reasoning: Decimal
    snapshot: str

    def cost(self, counts: TokenCounts) -> Decimal:
        """The exact price of ``counts``."""
        total = _EXACT.multiply(self.input, counts.input)
        total = _EXACT.fma(self.output, counts.output, total)
        if counts.cache_read:
            total = _EXACT.fma(self.cache_read, counts.cache_read, total)
        if counts.cache_write:
            total = _EXACT.fma(self.cache_write, counts.cache_write, total)
        if counts.reasoning:
            total = _EXACT.fma(self.reasoning, counts.reasoning, total)
        return total

    def worst(self, max_input: int, max_output: int) -> Decimal:
        """The most that so many tokens can cost, whichever classes they turn out to be of."""
        dearest_input = max(self.input, self.cache_read, self.cache_write)
        dearest_output = max(self.output, self.reasoning)
        return _EXACT.fma(dearest_output, max_output, _EXACT.multiply(dearest_input, max_input))


def price(rates: Rates, counts: TokenCounts, markup: Decimal) -> Decimal:
    """US dollars for ``counts`` at ``rates`` per 1,000,000 tokens, times ``markup``; exact, never rounded."""
    return price_of(rates, markup).cost(counts)


def price_of(rates: Rates, factor: Decimal) -> Price:
    """The price that ``rates`` and ``factor`` make."""
    each = effective(rates)
    return Price(
        snapshot=_snapshot(each, factor),
        **{name: _EXACT.scaleb(_EXACT.multiply(rate, factor), _PER_MILLION) for name, rate in each.items()},
    )


def price_for(card: RateCard, model: str, *, byo: bool) -> Price:
    """The price of ``model`` on ``card``, ``byo`` with a key of the tenant's own; raises InvalidRequest without one."""
    rates = card.models.get(model)
    if rates is None:
        raise InvalidRequest(
            f"Model {model!r} has no price, so it cannot be used: the operator adds its rates to _rate-card.yaml.",
            param="model",
            details={"reason": "no_price"},
        )
    return price_of(rates, card.byo_markup if byo else card.markup)


def rate_snapshot(card: RateCard, model: str, byo: bool) -> str:
    """The rates and the factor behind a ledger row, as canonical JSON; raises InvalidRequest for an unpriced model."""
    return price_for(card, model, byo=byo).snapshot


def effective(rates: Rates) -> dict[str, Decimal]:
    """Rates of every class, those left out taken from their nearest relative."""
    return {
        "input": rates.input,
        "cache_read": rates.input if rates.cache_read is None else rates.cache_read,
        "cache_write": rates.input if rates.cache_write is None else rates.cache_write,
        "output": rates.output,
        "reasoning": rates.output if rates.reasoning is None else rates.reasoning,
    }


def plain(amount: Decimal) -> str:
    """An exact decimal as text with neither exponent nor trailing zeros."""
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def add(first: Decimal, second: Decimal) -> Decimal:
    """The exact sum."""
    return _EXACT.add(first, second)


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of all."""
    return reduce(_EXACT.add, amounts, _ZERO)


def subtract(first: Decimal, second: Decimal) -> Decimal:
    """The exact difference."""
    return _EXACT.subtract(first, second)


def _snapshot(rates: dict[str, Decimal], factor: Decimal) -> str:
    value = {
        "currency": "USD",
        "markup": plain(factor),
        "per_tokens": 1_000_000,
        "rates": {name: plain(rate) for name, rate in rates.items()},
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
