"""What adds up the calls of a ledger: statements that SQLite runs by itself, with no function of ours for each row.

So whoever adds up many rows leaves the interpreter to the event loop meanwhile. Money is exact all the same: the
decimal places of costs are added up as whole numbers, nine at a time.

New calls are grouped once, by all that any sum is by; what each table says more is made of these few groups.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal

import apsw

from carrel.metering.rows import DAY
from carrel.policy.pricing import add, plain

Table = Literal["rollups", "session_rollups"]
SUMMED: Final = (
    "input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cache_write_1h_tokens, "
    "tool_calls"
)
SUMS: Final = f"calls, {SUMMED}, cost_usd"
"""The columns of sums, in both tables of them."""
KEYS: Final[dict[Table, str]] = {
    "rollups": "date, model, rates_id, plan_id, byo, tier, agent, member",
    "session_rollups": "date, model, session_id",
}
"""What the sums of each table are by."""
_PLACES: Final = 9
_PROMPT: Final = "input_tokens + cache_read_tokens + cache_write_tokens"
# The longest prompt that the call is above of, of those that its rates have other ones for.
_TIER: Final = f"coalesce((SELECT max(over) FROM tiers WHERE tiers.rates_id = calls.rates_id AND over < {_PROMPT}), 0)"  # noqa: S608 - constants
_WITH: Final = (
    "WITH tiers(rates_id, over) AS MATERIALIZED (SELECT rates.id, value ->> 'over_tokens' "
    "FROM rates, json_each(rate_snapshot, '$.long_prompts'){}) "
)
_DATE: Final = "date(started / 1000000, 'unixepoch')"
# What tells most calls apart is first: the others need not be compared then.
_FRESH: Final = "session_id, agent, member, model, rates_id, plan_id, byo, tier, day"
_FRESH_DATE: Final = "date(day * 86400, 'unixepoch')"


def prepare(connection: apsw.Connection) -> None:
    """Give ``connection`` what sums are made with: a table of its own in memory, and functions for what is few.

    These are `exact_add` of two amounts and `exact_sum` of many.
    """
    connection.create_scalar_function("exact_add", _exact_add, 2, deterministic=True)
    connection.create_aggregate_function("exact_sum", _exact_sum, 1)
    connection.pragma("temp_store", "memory")
    connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS fresh({_FRESH}, {SUMS})")


def counted(table: Table, longest: int) -> str:
    """A SELECT of what ``table`` must say of all calls, from the calls themselves.

    ``longest``: as many characters as the longest of their costs has, or more.
    """
    keys = _made(KEYS[table], date=_DATE, tier=_TIER)
    head = _WITH.format("") if table == "rollups" else ""
    return f"{head}SELECT {keys}, {_added('count(*)', longest)} FROM calls GROUP BY {_first(KEYS[table])}"  # noqa: S608 - constants


def grouped(longest: int, *, tiered: bool) -> str:
    """An INSERT of groups of the calls behind a sequence number into `fresh`; ``longest`` as in `counted`.

    ``tiered``: whether the rates of one of them have others for long prompts.
    """
    head = _WITH.format(" WHERE rates.id IN (SELECT rates_id FROM calls WHERE seq > ?1)") if tiered else ""
    return head + _grouped("seq > ?1", longest, tiered=tiered)


def grouped_between(longest: int) -> str:
    """The same of the calls that began between two moments, the second left out."""
    return _WITH.format("") + _grouped("started >= ?1 AND started < ?2", longest, tiered=True)


def entered(table: Table, longest: int) -> str:
    """An INSERT that adds the groups in `fresh` to what ``table`` says; ``longest`` as in `counted`."""
    more = ", ".join(f"{name} = {name} + excluded.{name}" for name in f"calls, {SUMMED}".split(", "))
    return (
        f"INSERT INTO {table}({KEYS[table]}, {SUMS}) {_of_fresh(table, longest)} "
        f"ON CONFLICT({KEYS[table]}) DO UPDATE SET {more}, cost_usd = exact_add(cost_usd, excluded.cost_usd)"
    )


def differing(table: Table, longest: int) -> str:
    """A SELECT of the days and models of which ``table`` says of one day something else than the groups in `fresh`.

    ``longest`` as in `counted`.
    """
    names = f"{KEYS[table]}, {SUMS}"
    return (
        f"WITH made({names}) AS MATERIALIZED ({_of_fresh(table, longest)}), "  # noqa: S608 - constants
        f"kept AS MATERIALIZED (SELECT {names} FROM {table} WHERE date = ?1) "
        "SELECT date, model FROM (SELECT * FROM made EXCEPT SELECT * FROM kept) UNION "
        "SELECT date, model FROM (SELECT * FROM kept EXCEPT SELECT * FROM made)"
    )


def by_model(longest: int) -> str:
    """A SELECT of the sums of each model from the groups in `fresh`; ``longest`` as in `counted`."""
    return f"SELECT model, {_added('sum(calls)', longest)} FROM fresh GROUP BY model"  # noqa: S608 - constants


def _grouped(where: str, longest: int, *, tiered: bool) -> str:
    keys = _made(_FRESH, tier=_TIER if tiered else "0", day=f"started / {DAY}")
    return (
        f"INSERT INTO fresh({_FRESH}, {SUMS}) SELECT {keys}, {_added('count(*)', longest)} "  # noqa: S608 - constants
        f"FROM calls WHERE {where} GROUP BY {_first(_FRESH)}"
    )


def _of_fresh(table: Table, longest: int) -> str:
    """A SELECT of what the groups in `fresh` add to ``table``."""
    keys = _made(KEYS[table], date=_FRESH_DATE)
    return f"SELECT {keys}, {_added('sum(calls)', longest)} FROM fresh WHERE true GROUP BY {_first(KEYS[table])}"  # noqa: S608 - constants


def _made(keys: str, **of: str) -> str:
    """The columns of ``keys``, those that are ``of`` others by the expressions for them."""
    return ", ".join(of.get(key, key) for key in keys.split(", "))


def _first(keys: str) -> str:
    """The columns of ``keys``, which are the first, by their numbers."""
    return ", ".join(str(number) for number in range(1, keys.count(",") + 2))


def _added(calls: str, longest: int) -> str:
    """The expressions of the columns `SUMS`, the first of them being ``calls``; ``longest`` as in `counted`."""
    return f"{calls}, {', '.join(f'sum({name})' for name in SUMMED.split(', '))}, {_exact(longest)}"


def _exact(longest: int) -> str:
    """The exact sum of `cost_usd` as decimal text with neither exponent nor trailing zeros."""
    # No cost has more places than characters but for "0."; nor has a sum of them.
    groups = max(1, -(-(longest - 2) // _PLACES))
    places = f"substr(cost_usd, instr(cost_usd || '.', '.') + 1) || '{'0' * _PLACES * groups}'"
    carried, parts = "", []
    for group in range(groups - 1, -1, -1):
        whole = f"(sum(CAST(substr({places}, {group * _PLACES + 1}, {_PLACES}) AS INTEGER)){carried})"
        parts.append(f"{whole} % 1000000000")
        carried = f" + {whole} / 1000000000"
    text = f"printf('%d.{'%09d' * groups}', sum(CAST(cost_usd AS INTEGER)){carried}, {', '.join(reversed(parts))})"
    return f"rtrim(rtrim({text}, '0'), '.')"


def _exact_add(*amounts: object) -> str:
    left, right = amounts
    return plain(add(Decimal(str(left)), Decimal(str(right))))


def _exact_sum() -> tuple[list[Decimal], Callable[..., None], Callable[..., str]]:
    def step(state: list[Decimal], cost: str) -> None:
        state[0] = add(state[0], Decimal(cost))

    def final(state: list[Decimal]) -> str:
        return plain(state[0])

    return [Decimal(0)], step, final
