"""The report: one line a day and model, under the columns that are a contract.

The four token columns do not overlap: ``tokens_in`` is prompt tokens that were not read from a cache (those written to
one among them), ``tokens_cached`` is prompt tokens read from one, ``tokens_out`` is the answer without its reasoning,
``reasoning_tokens`` the reasoning. Their sum is what quotas count.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from carrel.ids import TenantId
from carrel.metering.rollups import Sums
from carrel.policy.pricing import add, plain

COLUMNS: Final = (
    "date", "tenant", "model", "tokens_in", "tokens_out", "tokens_cached", "reasoning_tokens", "tool_calls", "cost_usd"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReportRow:
    """One line. ``cost_usd`` is exact."""

    date: date
    tenant: TenantId
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    reasoning_tokens: int
    tool_calls: int
    cost_usd: Decimal
    key: str | None = None
    """The agent, session or member, empty for none, where the report is by one."""

    def cells(self) -> tuple[str, ...]:
        """Its columns as text."""
        return (
            self.date.isoformat(), self.tenant, self.model, str(self.tokens_in), str(self.tokens_out),
            str(self.tokens_cached), str(self.reasoning_tokens), str(self.tool_calls), plain(self.cost_usd),
            *(() if self.key is None else (self.key,)),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class UsageTotals:
    """What the rows of a report add up to."""

    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    reasoning_tokens: int = 0
    tool_calls: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        """All tokens."""
        return self.tokens_in + self.tokens_out + self.tokens_cached + self.reasoning_tokens


def rows_of(tenant: TenantId, sums: Mapping[tuple[date, str], Sums]) -> list[ReportRow]:
    """The report's rows, by day and model."""
    return [_row(tenant, day, model, total) for (day, model), total in sorted(sums.items())]


def split_rows(tenant: TenantId, sums: Mapping[tuple[date, str, str], Sums]) -> list[ReportRow]:
    """The report's rows, by day, model and one thing more."""
    return [_row(tenant, day, model, total, key) for (day, model, key), total in sorted(sums.items())]


def _row(tenant: TenantId, day: date, model: str, total: Sums, key: str | None = None) -> ReportRow:
    return ReportRow(
        day, tenant, model,
        tokens_in=total.counts.input + total.counts.cache_write, tokens_out=total.counts.output,
        tokens_cached=total.counts.cache_read, reasoning_tokens=total.counts.reasoning,
        tool_calls=total.tool_calls, cost_usd=total.cost, key=key,
    )  # fmt: skip


def totals_of(rows: Iterable[ReportRow]) -> UsageTotals:
    """The sums of ``rows``."""
    total = UsageTotals()
    for row in rows:
        total = UsageTotals(
            total.tokens_in + row.tokens_in,
            total.tokens_out + row.tokens_out,
            total.tokens_cached + row.tokens_cached,
            total.reasoning_tokens + row.reasoning_tokens,
            total.tool_calls + row.tool_calls,
            add(total.cost_usd, row.cost_usd),
        )
    return total


def to_csv(rows: Iterable[ReportRow], split: str | None = None) -> str:
    """``rows`` as CSV with the contract's header, and what they are ``split`` by behind it.

    No cell is a formula: every one begins with a letter or a digit.
    """
    import csv  # noqa: PLC0415 - for this form of a report alone

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS if split is None else (*COLUMNS, split))
    writer.writerows(row.cells() for row in rows)
    return out.getvalue()
