"""What tokens cost: exact, with no rounding anywhere. Knows no ledger and no clock."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, FloatOperation, Inexact, InvalidOperation, Overflow
from functools import lru_cache, reduce
from typing import Any, Final

from carrel.declare.billing import PlanBilling
from carrel.declare.rate_card import ClassRates, LongPrompt, PromptRates, RateCard, Rates, Tier, TokenCounts
from carrel.errors import InvalidRequest

_EXACT: Final = Context(prec=400, traps=[Inexact, FloatOperation, InvalidOperation, Overflow])
_multiply: Final = _EXACT.multiply
_fma: Final = _EXACT.fma
_PER_MILLION: Final = -6
_ZERO: Final = Decimal(0)
_MARKS: Final = ("rule", "tier")


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price at one time: US dollars of one token of each class with the markup in them, exact.

    ``long_prompts`` are the prices of whole calls by the prompt tokens that they have more of, fewest first.
    ``snapshot`` is canonical JSON of the rates and the factor that made them, for the ledger.
    """

    input: Decimal
    cache_read: Decimal
    cache_write: Decimal
    output: Decimal
    reasoning: Decimal
    cache_write_1h: Decimal
    snapshot: str = ""
    long_prompts: "tuple[tuple[int, Price], ...]" = ()
    dearest_input: Decimal = field(init=False)
    dearest_output: Decimal = field(init=False)

    def __post_init__(self) -> None:
        """Note the dearest classes: what every call is held for."""
        dearest = max(self.input, self.cache_read, self.cache_write, self.cache_write_1h)
        object.__setattr__(self, "dearest_input", dearest)
        object.__setattr__(self, "dearest_output", max(self.output, self.reasoning))

    def cost(self, counts: TokenCounts) -> Decimal:
        """The exact price of ``counts``."""
        if self.long_prompts:
            prompt = counts.prompt
            for over, longer in reversed(self.long_prompts):
                if prompt > over:
                    return longer.cost(counts)
        total = _multiply(self.input, counts.input)
        total = _fma(self.output, counts.output, total)
        if counts.cache_read:
            total = _fma(self.cache_read, counts.cache_read, total)
        if counts.cache_write:
            total = _fma(self.cache_write, counts.cache_write - counts.cache_write_1h, total)
        if counts.cache_write_1h:
            total = _fma(self.cache_write_1h, counts.cache_write_1h, total)
        if counts.reasoning:
            total = _fma(self.reasoning, counts.reasoning, total)
        return total

    def worst(self, max_input: int, max_output: int) -> Decimal:
        """The most that so many tokens can cost, whichever classes they turn out to be of."""
        own = _fma(self.dearest_output, max_output, _multiply(self.dearest_input, max_input))
        if not self.long_prompts:
            return own
        longer = (price.worst(max_input, max_output) for over, price in self.long_prompts if max_input > over)
        return max((own, *longer))


def price(rates: Rates, counts: TokenCounts, markup: Decimal) -> Decimal:
    """US dollars for ``counts`` at ``rates`` per 1,000,000 tokens, times ``markup``; exact, never rounded."""
    return price_of(rates, markup).cost(counts)


def price_of(rates: Rates, factor: Decimal, *, marks: Mapping[str, str] | None = None) -> Price:
    """The price that ``rates`` and ``factor`` make; ``marks`` say in the snapshot how these rates came to be held."""
    longer = tuple((one.over_tokens, _price(one, factor)) for one in rates.long_prompts)
    return replace(_price(rates, factor), snapshot=_snapshot(rates, factor, marks or {}), long_prompts=longer)


def price_in(snapshot: str) -> Price:
    """The price that made ``snapshot``; raises ValueError or KeyError for what is none."""
    value = json.loads(snapshot, parse_float=Decimal)
    longer = tuple(
        LongPrompt(over_tokens=one["over_tokens"], **_decimals(one["rates"])) for one in value.get("long_prompts", ())
    )
    marks = {name: value[name] for name in _MARKS if name in value}
    return price_of(Rates(long_prompts=longer, **_decimals(value["rates"])), Decimal(value["markup"]), marks=marks)


@dataclass(frozen=True, slots=True)
class Terms:
    """What one call's tokens were multiplied by: US dollars per 1,000,000 of each class, and a factor."""

    rates: Mapping[str, Decimal]
    factor: Decimal
    marks: Mapping[str, str]

    @classmethod
    def of(cls, snapshot: str, tier: int) -> "Terms":
        """The terms in a ledger row's ``snapshot``; ``tier`` is 0 or that of its long prompts."""
        value = json.loads(snapshot)
        found = value["rates"]
        for one in value.get("long_prompts", ()):
            if one["over_tokens"] == tier:
                found = one["rates"]
        marks = {name: value[name] for name in _MARKS if name in value}
        return cls(_decimals(found), Decimal(value["markup"]), marks)


def priced(rate: Decimal, tokens: int, factor: Decimal) -> Decimal:
    """US dollars for ``tokens`` at ``rate`` per 1,000,000, times ``factor``; exact."""
    return _EXACT.scaleb(_multiply(_multiply(rate, tokens), factor), _PER_MILLION)


@lru_cache(maxsize=256)
def _tiers(snapshot: str) -> tuple[int, ...]:
    return tuple(one["over_tokens"] for one in json.loads(snapshot).get("long_prompts", ()))


def tier_in(snapshot: str, prompt: int) -> int:
    """Which rates of ``snapshot`` a call of so many prompt tokens was priced by: 0, or those for more than so many."""
    return max((over for over in _tiers(snapshot) if prompt > over), default=0)


def _decimals(rates: dict[str, str]) -> dict[str, Any]:
    return {name: Decimal(rate) for name, rate in rates.items()}


def _price(rates: ClassRates, factor: Decimal) -> Price:
    """Dollars of one token of each class."""
    every = {"cache_write_1h": effective(rates)["cache_write"], **effective(rates)}
    each = {name: _EXACT.scaleb(_multiply(rate, factor), _PER_MILLION) for name, rate in every.items()}
    return Price(
        each["input"], each["cache_read"], each["cache_write"], each["output"], each["reasoning"],
        each["cache_write_1h"],
    )  # fmt: skip


def rates_for(card: RateCard, model: str) -> Rates | None:
    """The rates of ``model`` on ``card``: its own, those of models that have none, or none."""
    return card.models.get(model, card.otherwise)


def price_for(
    card: RateCard, model: str, *, byo: bool, billing: PlanBilling | None = None, tier: Tier | None = None
) -> Price:
    """The price of ``model`` on ``card`` by a plan's ``billing``; raises InvalidRequest without one.

    ``byo``: with a key of the tenant's own. ``tier``: what it is served at; one without rates has the model's own.
    """
    rates, marks = rates_for(card, model), {} if model in card.models else {"rule": "otherwise"}
    if rates is None:
        raise InvalidRequest(
            f"Model {model!r} has no price, so it cannot be used: the operator adds its rates to _rate-card.yaml.",
            param="model",
            details={"reason": "no_price"},
        )
    at = rates.batch if tier == "batch" else rates.priority if tier == "priority" else None
    if at is not None and tier is not None:
        rates = Rates(**{name: getattr(at, name) for name in PromptRates.model_fields})
        marks = {**marks, "tier": tier}
    return price_of(rates, factor_for(card, billing, byo=byo), marks=marks)


def factor_for(card: RateCard, billing: PlanBilling | None, *, byo: bool) -> Decimal:
    """What the rates are multiplied by: the plan's own factor, 1 where it passes them through, or the card's."""
    if byo:
        return card.byo_markup if billing is None or billing.byo_markup is None else billing.byo_markup
    if billing is None or billing.rule == "markup":
        return card.markup if billing is None or billing.markup is None else billing.markup
    return Decimal(1)


def effective(rates: ClassRates) -> dict[str, Decimal]:
    """Rates of every class, those left out taken from their nearest relative; `cache_write_1h` where it is declared."""
    every = {
        "input": rates.input,
        "cache_read": rates.input if rates.cache_read is None else rates.cache_read,
        "cache_write": rates.input if rates.cache_write is None else rates.cache_write,
        "output": rates.output,
        "reasoning": rates.output if rates.reasoning is None else rates.reasoning,
    }
    return every if rates.cache_write_1h is None else {**every, "cache_write_1h": rates.cache_write_1h}


def plain(amount: Decimal) -> str:
    """An exact decimal as text with neither exponent nor trailing zeros."""
    if not amount:
        return "0"
    text = str(amount)
    if "E" in text:
        text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


add: Final[Callable[[Decimal, Decimal], Decimal]] = _EXACT.add
"""The exact sum of two: the context's own method, for every call adds up a dozen times."""
subtract: Final[Callable[[Decimal, Decimal], Decimal]] = _EXACT.subtract
"""The exact difference."""


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum of all."""
    return reduce(_EXACT.add, amounts, _ZERO)


def _snapshot(rates: Rates, factor: Decimal, marks: Mapping[str, str]) -> str:
    value: dict[str, object] = {
        "currency": "USD", "markup": plain(factor), "per_tokens": 1_000_000, "rates": _texts(rates), **marks
    }  # fmt: skip
    if rates.long_prompts:
        value["long_prompts"] = [
            {"over_tokens": one.over_tokens, "rates": _texts(one)} for one in rates.long_prompts
        ]  # fmt: skip
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _texts(rates: ClassRates) -> dict[str, str]:
    return {name: plain(rate) for name, rate in effective(rates).items()}
