"""What adds up the calls of a ledger: statements that SQLite runs by itself, with no function of ours for each row.

So whoever adds up many rows leaves the interpreter to the event loop meanwhile. Money is exact all the same: the
decimal places of costs are added up as whole numbers, nine at a time.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal

import apsw

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
    "FROM rates, json_each(rate_snapshot, '$.long_prompts')) "
)
_DATE: Final = "date(started / 1000000, 'unixepoch')"


def counted(table: Table, where: str, longest: int) -> str:
    """A SELECT of what ``table`` must say of the calls ``where``, from the calls themselves.

    ``longest``: as many characters as the longest of their costs has, or more.
    """
    keys = ", ".join({"date": _DATE, "tier": _TIER}.get(key, key) for key in KEYS[table].split(", "))
    by = ", ".join(str(number) for number in range(1, KEYS[table].count(",") + 2))
    head = _WITH if table == "rollups" else ""
    return f"{head}SELECT {keys}, {added(longest)} FROM calls WHERE {where} GROUP BY {by}"  # noqa: S608 - constants


def entered(table: Table, where: str, longest: int) -> str:
    """An INSERT that adds the calls ``where`` to what ``table`` says; ``longest`` as in `counted`."""
    more = ", ".join(f"{name} = {name} + excluded.{name}" for name in f"calls, {SUMMED}".split(", "))
    return (
        f"INSERT INTO {table}({KEYS[table]}, {SUMS}) {counted(table, where, longest)} "
        f"ON CONFLICT({KEYS[table]}) DO UPDATE SET {more}, cost_usd = exact_add(cost_usd, excluded.cost_usd)"
    )


def added(longest: int) -> str:
    """The expressions of the columns `SUMS`, for calls; ``longest`` as in `counted`."""
    return f"count(*), {', '.join(f'sum({name})' for name in SUMMED.split(', '))}, {_exact(longest)}"


def _exact(longest: int) -> str:
    """The exact sum of `cost_usd` as decimal text with neither exponent nor trailing zeros."""
    # No cost has more places than characters but for "0.".
    groups = max(1, -(-(longest - 2) // _PLACES))
    places = f"substr(cost_usd, instr(cost_usd || '.', '.') + 1) || '{'0' * _PLACES * groups}'"
    carried, parts = "", []
    for group in range(groups - 1, -1, -1):
        whole = f"(sum(CAST(substr({places}, {group * _PLACES + 1}, {_PLACES}) AS INTEGER)){carried})"
        parts.append(f"{whole} % 1000000000")
        carried = f" + {whole} / 1000000000"
    text = f"printf('%d.{'%09d' * groups}', sum(CAST(cost_usd AS INTEGER)){carried}, {', '.join(reversed(parts))})"
    return f"rtrim(rtrim({text}, '0'), '.')"


def add_functions(connection: apsw.Connection) -> None:
    """Give ``connection`` what works on sums, of which there are few: `exact_add` of two, `exact_sum` of many."""
    connection.create_scalar_function("exact_add", _exact_add, 2, deterministic=True)
    connection.create_aggregate_function("exact_sum", _exact_sum, 1)


def _exact_add(*amounts: object) -> str:
    left, right = amounts
    return plain(add(Decimal(str(left)), Decimal(str(right))))


def _exact_sum() -> tuple[list[Decimal], Callable[..., None], Callable[..., str]]:
    def step(state: list[Decimal], cost: str) -> None:
        state[0] = add(state[0], Decimal(cost))

    def final(state: list[Decimal]) -> str:
        return plain(state[0])

    return [Decimal(0)], step, final
