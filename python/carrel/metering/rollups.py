"""What a ledger's calls add up to by UTC day, kept in the transaction that writes them; and the recount that checks it.

Blocks: for the ledger's own thread, or beside it on a connection of one's own. Money is exact decimal text, added up
by functions of ours alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

import apsw

from carrel.declare.rate_card import TokenCounts
from carrel.metering.rows import Row
from carrel.metering.tables import DAY_MICROSECONDS, RECOUNT, ROLLUP_KEY, SESSION_KEY, SESSION_RECOUNT, SUMMED
from carrel.policy.periods import Period
from carrel.policy.pricing import add, plain, tier_in
from carrel.store.sqlite import translated

Split = Literal["agent", "session", "member", "key"]
"""What a report is by, beside day and model. ``key``: whose the provider's key was, `byo` the tenant's own."""
_KEYS: Final[Mapping[Split, str]] = {
    "agent": "agent", "member": "member", "key": "CASE byo WHEN 1 THEN 'byo' ELSE 'operator' END"
}  # fmt: skip
_SUMS: Final = f"calls, {SUMMED}, cost_usd"
_ADDED: Final = "sum(calls), " + ", ".join(f"sum({name})" for name in SUMMED.split(", ")) + ", exact_sum(cost_usd)"
Key = tuple[str | int, ...]
_ZERO: Final = Decimal(0)


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


@dataclass(frozen=True, slots=True)
class Recount:
    """How many calls were counted anew, and which days and models did not say so."""

    calls: int
    wrong: tuple[tuple[str, str], ...]


class Tally:
    """Rows that are being written, added up as they come."""

    def __init__(self) -> None:
        self._groups: dict[Key, list[Any]] = {}
        self._sessions: dict[Key, list[Any]] = {}
        self._days: dict[int, str] = {}

    def add(self, row: Row, rates_id: int, plan_id: int) -> None:
        """Count ``row``, whose rates and plan have these numbers."""
        number = row.started // DAY_MICROSECONDS
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = row.day.isoformat()
        counts = row.counts
        key: Key = (
            day, row.model, rates_id, plan_id, int(row.byo), tier_in(row.rates, counts.prompt), row.agent, row.member
        )  # fmt: skip
        session: Key = (day, row.model, row.session_id)
        for groups, of in ((self._groups, key), (self._sessions, session)):
            sums = groups.get(of)
            if sums is None:
                sums = groups[of] = [0, 0, 0, 0, 0, 0, 0, 0, _ZERO]
            sums[0] += 1
            sums[1] += counts.input
            sums[2] += counts.cache_read
            sums[3] += counts.cache_write
            sums[4] += counts.output
            sums[5] += counts.reasoning
            sums[6] += counts.cache_write_1h
            sums[7] += row.tool_calls
            sums[8] = add(sums[8], row.cost)

    def enter(self, connection: apsw.Connection) -> dict[tuple[date, str], Sums]:
        """Add what was counted to what its days say; what it is by day and model. In the caller's transaction."""
        totals = {key: read_sums(sums) for key, sums in self._groups.items()}
        _put(connection, "rollups", ROLLUP_KEY, totals)
        sessions = {key: read_sums(sums) for key, sums in self._sessions.items()}
        _put(connection, "session_rollups", SESSION_KEY, sessions)
        written: dict[tuple[date, str], Sums] = {}
        for key, sums in totals.items():
            of = (date.fromisoformat(str(key[0])), str(key[1]))
            written[of] = written[of] + sums if of in written else sums
        return written


def _put(connection: apsw.Connection, table: str, names: str, totals: Mapping[Key, Sums]) -> None:
    count = names.count(",") + 1
    where = " AND ".join(f"{name}=?" for name in names.split(", "))
    # Constants all, but for the values that are bound.
    find = f"SELECT {_SUMS} FROM {table} WHERE {where}"  # noqa: S608
    places = ",".join("?" * (count + 9))
    put = f"INSERT OR REPLACE INTO {table}({names}, {_SUMS}) VALUES ({places})"  # noqa: S608
    for key, sums in totals.items():
        found = connection.execute(find, key).fetchone()
        whole = sums + read_sums(found) if found else sums
        c = whole.counts
        connection.execute(put, (
            *key, whole.calls, c.input, c.cache_read, c.cache_write, c.output, c.reasoning, c.cache_write_1h,
            whole.tool_calls, plain(whole.cost),
        ))  # fmt: skip


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
                f"SELECT {SESSION_KEY}, {_SUMS} FROM session_rollups WHERE date BETWEEN ? AND ?",  # noqa: S608 - constants
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


def recount(connection: apsw.Connection) -> Recount:
    """Count every call anew, and hold it against what is kept: as long as the calls are many."""
    wrong: set[tuple[str, str]] = set()
    for kept, counted in (
        (f"SELECT {ROLLUP_KEY}, {_SUMS} FROM rollups", RECOUNT),  # noqa: S608 - constants
        (f"SELECT {SESSION_KEY}, {_SUMS} FROM session_rollups", SESSION_RECOUNT),  # noqa: S608 - constants
    ):
        with translated():
            for left, right in ((kept, counted), (counted, kept)):
                # Names in the order of the columns are all that the halves have to share.
                differ: Iterable[Any] = connection.execute(f"SELECT * FROM ({left}) EXCEPT SELECT * FROM ({right})")  # noqa: S608
                wrong |= {(row[0], row[1]) for row in differ}
    with translated():
        found: Any = connection.execute("SELECT count(*) FROM calls").fetchone()
    return Recount(int(found[0]), tuple(sorted(wrong)))


def _days(period: Period) -> tuple[str, str]:
    return period.first.isoformat(), period.last.isoformat()
