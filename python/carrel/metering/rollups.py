"""What a ledger's calls add up to by UTC day, kept in the transaction that writes them.

Blocks: for the ledger's own thread, or beside it on a connection of one's own. Money is exact decimal text, added up
by functions of ours alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

import apsw

from carrel.declare.rate_card import TokenCounts
from carrel.metering.addition import KEYS, SUMMED, SUMS, by_model, entered, grouped
from carrel.metering.rows import Row
from carrel.policy.periods import Period
from carrel.policy.pricing import add, tier_in
from carrel.store.sqlite import translated

Split = Literal["agent", "session", "member", "key"]
"""What a report is by, beside day and model. ``key``: whose the provider's key was, `byo` the tenant's own."""
_KEYS: Final[Mapping[Split, str]] = {
    "agent": "agent", "member": "member", "key": "CASE byo WHEN 1 THEN 'byo' ELSE 'operator' END"
}  # fmt: skip
_ADDED: Final = "sum(calls), " + ", ".join(f"sum({name})" for name in SUMMED.split(", ")) + ", exact_sum(cost_usd)"


@dataclass(frozen=True, slots=True)
class Sums:
    """What calls add up to."""

    calls: int = 0
    counts: TokenCounts = field(default_factory=TokenCounts)
    tool_calls: int = 0
    cost: Decimal = Decimal(0)

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls + other.calls,
            self.counts + other.counts,
            self.tool_calls + other.tool_calls,
            add(self.cost, other.cost),
        )


@dataclass(frozen=True, slots=True)
class Charged:
    """Calls that were charged alike: of one model, by the same rates, of the same tier."""

    model: str
    rates: str
    card_hash: str
    plan: str
    plan_hash: str
    byo: bool
    tier: int
    """0 for the model's own rates, else the prompt's length above which these hold."""


def enter(connection: apsw.Connection, after: int, longest: int, *, tiered: bool) -> dict[str, Sums]:
    """Add the calls behind the one of sequence number ``after`` to what their days say; what they are by model.

    In the caller's transaction. ``longest``: as many characters as the longest of their costs has, or more; ``tiered``:
    whether the rates of one of them have others for long prompts.
    """
    connection.execute(grouped(longest, tiered=tiered), (after,))
    for table in KEYS:
        connection.execute(entered(table, longest))
    found: list[Any] = connection.execute(by_model(longest)).fetchall()
    connection.execute("DELETE FROM fresh")
    return {model: read_sums(rest) for model, *rest in found}


def read_sums(found: Sequence[Any]) -> Sums:
    """The sums in the columns of a rollup."""
    return Sums(found[0], TokenCounts(*found[1:7]), found[7], Decimal(found[8]))


def by_day(connection: apsw.Connection, period: Period) -> dict[tuple[date, str], Sums]:
    """The sums of each day and model of ``period``."""
    return {(day, model): sums for (day, model, _), sums in _grouped(connection, period, "''", "rollups").items()}


def by_split(connection: apsw.Connection, period: Period, split: Split) -> dict[tuple[date, str, str], Sums]:
    """The sums of each day, model and agent, session, member or kind of key of ``period``."""
    if split == "session":
        # There is a row for each already: nothing has to be added up.
        with translated():
            found: list[Any] = connection.execute(
                f"SELECT {KEYS['session_rollups']}, {SUMS} FROM session_rollups WHERE date BETWEEN ? AND ?",  # noqa: S608 - constants
                _days(period),
            ).fetchall()
        # Tens of thousands in a busy month, of some thirty days.
        days = {day: date.fromisoformat(day) for day in {row[0] for row in found}}
        return {(days[row[0]], row[1], row[2]): read_sums(row[3:]) for row in found}
    return _grouped(connection, period, _KEYS[split], "rollups")


def _grouped(connection: apsw.Connection, period: Period, key: str, table: str) -> dict[tuple[date, str, str], Sums]:
    with translated():
        found: list[Any] = connection.execute(
            f"SELECT date, model, {key}, {_ADDED} FROM {table} WHERE date BETWEEN ? AND ? GROUP BY 1, 2, 3",  # noqa: S608 - constants
            _days(period),
        ).fetchall()
    return {(date.fromisoformat(day), model, of): read_sums(rest) for day, model, of, *rest in found}


def charged(connection: apsw.Connection, period: Period) -> dict[Charged, Sums]:
    """The sums of what was charged alike in ``period``."""
    with translated():
        found: list[Any] = connection.execute(
            f"SELECT model, rate_snapshot, rate_card_hash, plan, plan_hash, byo, tier, {_ADDED} FROM rollups "  # noqa: S608 - constants
            "JOIN rates ON rates.id = rates_id JOIN plans_of ON plans_of.id = plan_id "
            "WHERE date BETWEEN ? AND ? GROUP BY rates_id, plan_id, model, byo, tier",
            _days(period),
        ).fetchall()
    made: dict[Charged, Sums] = {}
    for model, rates, card_hash, plan, plan_hash, byo, tier, *rest in found:
        made[Charged(model, rates, card_hash, plan, plan_hash, bool(byo), tier)] = read_sums(rest)
    return made


def charged_of(row: Row) -> Charged:
    """What ``row`` was charged like."""
    tier = tier_in(row.rates, row.counts.prompt)
    return Charged(row.model, row.rates, row.card_hash, row.plan, row.plan_hash, row.byo, tier)


def _days(period: Period) -> tuple[str, str]:
    return period.first.isoformat(), period.last.isoformat()
