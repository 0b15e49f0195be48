"""The invoice: each charge with the arithmetic that makes it, from sums of calls that were charged alike.

Pure. Rates are what the ledger's rows were written with, never today's: an invoice of last year is made as it was.
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_DOWN, Decimal
from typing import Final

from carrel.declare.billing import PlanBilling
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.metering.rollups import Charged, Sums
from carrel.policy.periods import ONE_DAY, Period
from carrel.policy.pricing import Terms, plain, priced, total_of

_CENT: Final = Decimal("0.01")
_NAMES: Final[Mapping[str, str]] = {
    "input": "input", "cache_read": "read from a cache", "cache_write": "written to a cache",
    "cache_write_1h": "written to a cache for an hour", "output": "output", "reasoning": "reasoning",
}  # fmt: skip
_SERVED: Final[Mapping[str, str]] = {"batch": "served when there is room", "priority": "served before others"}


@dataclass(frozen=True, slots=True)
class Part:
    """One multiplication: so many tokens of a class, at a rate per 1,000,000, times a factor."""

    token_class: str
    tokens: int
    rate: Decimal
    factor: Decimal
    amount: Decimal

    @property
    def text(self) -> str:
        """The multiplication as one reads it."""
        factor = "" if self.factor == 1 else f" x {plain(self.factor)}"
        name = _NAMES[self.token_class]
        return f"{self.tokens:,} {name} x ${plain(self.rate)}/1M{factor} = ${plain(self.amount)}"


@dataclass(frozen=True, slots=True)
class Line:
    """One charge. ``of`` names the rates that its calls were priced by; None for a fee, which no call makes."""

    text: str
    amount: Decimal
    calls: int = 0
    of: Charged | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Invoice:
    """All charges of a period, and what they add up to."""

    period: Period
    lines: tuple[Line, ...]

    @property
    def total(self) -> Decimal:
        """What is owed, exact."""
        return total_of(line.amount for line in self.lines)


def invoice(
    sums: Mapping[Charged, Sums],
    period: Period,
    *,
    plan: str = "",
    billing: PlanBilling | None = None,
    billed_from: date | None = None,
) -> Invoice:
    """The invoice of ``period``. ``plan`` and its ``billing`` are those in force now: its fee is for each month
    that begins in the period, from the day on that the tenant is ``billed_from``.

    Raises CarrelError where the parts of a charge do not make up what its rows cost, which nothing can explain away.
    """
    order = sorted(sums.items(), key=lambda it: (it[0].model, it[0].byo, it[0].tier, it[0].rates, it[0].plan_hash))
    lines = [_line(of, total) for of, total in order]
    if billing is not None and billing.platform_fee_usd:
        lines += _fees(period, plan, billing.platform_fee_usd, billed_from)
    return Invoice(period, tuple(lines))


def _line(of: Charged, total: Sums) -> Line:
    terms = Terms.of(of.rates, of.tier)
    parts = tuple(
        Part(name, tokens, terms.rates[name], terms.factor, priced(terms.rates[name], tokens, terms.factor))
        for name, tokens in _classes(total.counts, terms).items()
        if tokens
    )
    if total_of(part.amount for part in parts) != total.cost:
        raise CarrelError(
            f"The charges for {of.model} do not add up to what its calls cost: `carrel billing verify` counts anew."
        )
    return Line(_said(of, terms, total.calls), total.cost, total.calls, of, parts)


def _classes(counts: TokenCounts, terms: Terms) -> dict[str, int]:
    """Tokens by the class that they are priced as: an hour's cache by itself only where it has its own rate."""
    hour = counts.cache_write_1h if "cache_write_1h" in terms.rates else 0
    return {
        "input": counts.input, "cache_read": counts.cache_read, "cache_write": counts.cache_write - hour,
        "cache_write_1h": hour, "output": counts.output, "reasoning": counts.reasoning,
    }  # fmt: skip


def _said(of: Charged, terms: Terms, calls: int) -> str:
    said = [f"{of.model}: {calls:,} call{'s' if calls != 1 else ''}"]
    if of.tier:
        said.append(f"prompts of more than {of.tier:,} tokens")
    if "tier" in terms.marks:
        said.append(_SERVED[terms.marks["tier"]])
    if of.byo:
        said.append("with your own key")
    if terms.marks.get("rule") == "otherwise":
        said.append("at the rates for models that have none of their own")
    return ", ".join(said)


def _fees(period: Period, plan: str, fee: Decimal, billed_from: date | None) -> Iterator[Line]:
    """The fee of each month, owed on its first day, or on the day that the tenant is billed from.

    So each is on one invoice, however periods follow each other, and a month that has begun is owed whole.
    """
    months, day = 0, period.first
    while day <= period.last:
        if day == billed_from and day.day != 1:
            yield _fee_of_a_part(day, plan, fee)
        elif day.day == 1 and (billed_from is None or day >= billed_from):
            months += 1
        day += ONE_DAY
    if months:
        text = f"Platform fee of the plan {plan}: {months} x ${plain(fee)}, for each month that begins in the period"
        yield Line(text, total_of([fee] * months))


def _fee_of_a_part(day: date, plan: str, fee: Decimal) -> Line:
    """The fee of the month that a tenant is billed from ``day`` of on: by days, parts of a cent left out."""
    days = monthrange(day.year, day.month)[1]
    left = days - day.day + 1
    amount = (fee * left / days).quantize(_CENT, rounding=ROUND_DOWN)
    return Line(
        f"Platform fee of the plan {plan} from {day} on: {left} of {days} days, ${plain(fee)} x {left}/{days} = "
        f"${plain(amount)}, parts of a cent left out",
        amount,
    )
