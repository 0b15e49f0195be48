"""The invoice: each charge with the arithmetic that makes it, from sums of calls that were charged alike.

Pure. Rates are what the ledger's rows were written with, never today's: an invoice of last year is made as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from carrel.declare.billing import PlanBilling
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.metering.rollups import Charged, Sums
from carrel.policy.periods import ONE_DAY, Period
from carrel.policy.pricing import Terms, plain, priced, total_of

_NAMES: Final[Mapping[str, str]] = {
    "input": "input", "cache_read": "read from a cache", "cache_write": "written to a cache",
    "cache_write_1h": "written to a cache for an hour", "output": "output", "reasoning": "reasoning",
}  # fmt: skip


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
    sums: Mapping[Charged, Sums], period: Period, *, plan: str = "", billing: PlanBilling | None = None
) -> Invoice:
    """The invoice of ``period``. ``plan`` and its ``billing`` are those in force now: its fee is for each month.

    Raises CarrelError where the parts of a charge do not make up what its rows cost, which nothing can explain away.
    """
    order = sorted(sums.items(), key=lambda it: (it[0].model, it[0].byo, it[0].tier, it[0].rates, it[0].plan_hash))
    lines = [_line(of, total) for of, total in order]
    fee = billing.platform_fee_usd if billing is not None else Decimal(0)
    months = _months(period) if fee else 0
    if months:
        amount = total_of([fee] * months)
        text = f"Platform fee of the plan {plan}: {months} x ${plain(fee)}, for each month that begins in the period"
        lines.append(Line(text, amount))
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
    if terms.marks.get("tier") == "batch":
        said.append("served when there is room")
    if of.byo:
        said.append("with your own key")
    if terms.marks.get("rule") == "otherwise":
        said.append("at the rates for models that have none of their own")
    return ", ".join(said)


def _months(period: Period) -> int:
    """How many UTC months begin in ``period``."""
    count, day = 0, period.first
    while day <= period.last:
        if day.day == 1:
            count += 1
        day = _next_first(day)
    return count


def _next_first(day: date) -> date:
    return (day.replace(day=28) + 4 * ONE_DAY).replace(day=1)
