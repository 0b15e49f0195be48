"""A tenant's ledger on the disk: the calls, append-only, and what their days add up to in the same transaction.

Blocks: for the ledger's own thread. Money is exact decimal text; SQLite never adds it up.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import apsw

from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.metering.protocol import ToolEnding
from carrel.metering.rollups import Sums, enter
from carrel.metering.rows import TERMS, Row, Values, micros, moment
from carrel.metering.tables import upgrade
from carrel.policy.periods import Period
from carrel.store.sqlite import open_database, transaction, translated
from carrel.tenancy.paths import TenantRoot

NAME: Final = "ledger.sqlite"
_COLUMNS: Final = (
    "id, started, ended, request_id, provider_request_id, session_id, agent, model, input_tokens, cache_read_tokens, "
    "cache_write_tokens, output_tokens, reasoning_tokens, tool_calls, cost_usd, outcome, byo, estimated, member, "
    "cache_write_1h_tokens, rates_id, plan_id"
)
_PLACES: Final = "(" + ",".join("?" * (_COLUMNS.count(",") + 1)) + ")"
_COST: Final = 14
"""The place of the cost among them."""
# Several rows in one statement, for each takes the interpreter's lock and gives it back; and no more than a few, for
# what makes their values holds that lock meanwhile, and the event loop waits for it as long.
_AT_ONCE: Final = 64
_INSERTS: Final = tuple(
    (count, f"INSERT INTO calls({_COLUMNS}) VALUES {','.join([_PLACES] * count)} ON CONFLICT(id) DO NOTHING")  # noqa: S608 - constants
    for count in (_AT_ONCE, 8, 1)
)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row as readers see it, under the contract's names."""

    id: str
    timestamp: datetime
    request_id: str
    provider_request_id: str
    session_id: str
    agent: str
    model: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    tool_calls: int
    cost_usd: Decimal
    rate_snapshot: str
    rate_card_hash: str
    outcome: str
    byo: bool
    estimated: bool
    member: str
    cache_write_1h_tokens: int
    plan: str
    plan_hash: str


def open_ledger(state_dir: Path, tenant: TenantId) -> apsw.Connection:
    """The ledger of ``tenant``, made where it is missing. Raises FileNotFoundError for a tenant without directory."""
    root = TenantRoot.open(state_dir / "tenants" / tenant)
    try:
        usage = root.directory("usage", create=True)
        try:
            _judge(usage)
            return open_database(f"/proc/self/fd/{usage.fd}/{NAME}", schema=upgrade)
        finally:
            usage.close()
    finally:
        root.close()


def _judge(usage: TenantRoot) -> None:
    # Not by opening it: closing a descriptor of a database drops every lock that the process has on it.
    for name in (NAME, f"{NAME}-wal", f"{NAME}-shm"):
        try:
            found = os.stat(name, dir_fd=usage.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != usage.owner:
            raise CarrelError("A tenant's ledger is not a plain file of the gateway's own; it is not opened.")


def apply(connection: apsw.Connection, rows: Sequence[Values]) -> dict[str, Sums]:
    """Write ``rows`` in one transaction; those that are there already are left out. Raises StorageFull.

    Returns the sums of what was written, by model.
    """
    with transaction(connection):
        found: Any = connection.execute("SELECT coalesce(max(seq), 0) FROM calls").fetchone()
        tiered = _write(connection, rows)
        longest = max((len(row[_COST]) for row in rows), default=0)
        return enter(connection, int(found[0]), longest, tiered=tiered)


def note(connection: apsw.Connection, ended: int, it: ToolEnding) -> None:
    """Write down that a limit ended a tool call, ``ended`` microseconds since 1970. Raises StorageFull."""
    with transaction(connection):
        connection.execute(
            "INSERT INTO tool_endings_of(ended, request_id, session_id, agent, tool, call_id, ending, seconds) "
            "VALUES (?,?,?,?,?,?,?,?)",
            (ended, it.request_id, it.session_id, it.agent, it.tool, it.call_id, it.ending, it.seconds),
        )


def missing(connection: apsw.Connection, rows: Iterable[Row]) -> list[Row]:
    """Those of ``rows`` that are not in the ledger, each once."""
    wanted = {row.id: row for row in rows}
    return [r for r in wanted.values() if not connection.execute("SELECT 1 FROM calls WHERE id=?", (r.id,)).fetchone()]


def _write(connection: apsw.Connection, rows: Sequence[Values]) -> bool:
    """Write ``rows``; whether the rates of some have others for long prompts."""
    known: dict[tuple[Any, ...], tuple[int, int]] = {}
    tiered, at = False, 0
    while at < len(rows):
        count, statement = next(one for one in _INSERTS if one[0] <= len(rows) - at)
        values: list[Any] = []
        for row in rows[at : at + count]:
            terms = row[-TERMS:]
            numbers = known.get(terms)
            if numbers is None:
                rates_id, has_tiers = _rates(connection, terms[:2])
                numbers = known[terms] = rates_id, _plan_id(connection, terms[2:])
                tiered = tiered or has_tiers
            values += row[:-TERMS]
            values += numbers
        connection.execute(statement, values)
        at += count
        # A thread that never sleeps keeps its processor until the clock's next tick, up to 4 ms: whoever woke up
        # there meanwhile, as the journal's thread does, goes first.
        os.sched_yield()
    return tiered


def _rates(connection: apsw.Connection, key: tuple[str, str]) -> tuple[int, bool]:
    """The number of rates, and whether there are others among them for long prompts."""
    found = _found_or_made(
        connection, key,
        "SELECT id, rate_snapshot -> '$.long_prompts' IS NOT NULL FROM rates "
        "WHERE rate_card_hash=? AND rate_snapshot=?",
        "INSERT INTO rates(rate_card_hash, rate_snapshot) VALUES (?,?)",
    )  # fmt: skip
    return int(found[0]), bool(found[1])


def _plan_id(connection: apsw.Connection, key: tuple[str, str]) -> int:
    found = _found_or_made(
        connection, key, "SELECT id FROM plans_of WHERE plan=? AND plan_hash=?",
        "INSERT INTO plans_of(plan, plan_hash) VALUES (?,?)",
    )  # fmt: skip
    return int(found[0])


def _found_or_made(connection: apsw.Connection, key: tuple[str, str], find: str, make: str) -> Any:
    found = connection.execute(find, key).fetchone()
    if found is None:
        connection.execute(make, key)
        found = connection.execute(find, key).fetchone()
    return found


def entries(
    connection: apsw.Connection, period: Period, *, after: tuple[int, int] | None, limit: int
) -> list[tuple[tuple[int, int], LedgerEntry]]:
    """Up to ``limit`` rows of ``period`` in the order of time, from behind the place ``after``, each with its place."""
    first, last = micros(period.start), micros(period.end)
    time, seq = after if after is not None else (first - 1, 0)
    with translated():
        found: list[Any] = connection.execute(
            "SELECT seq, calls.id, started, request_id, provider_request_id, session_id, agent, model, input_tokens, "
            "cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, tool_calls, cost_usd, "
            "rate_snapshot, rate_card_hash, outcome, byo, estimated, member, cache_write_1h_tokens, plan, "
            "plan_hash FROM calls JOIN rates ON rates.id = calls.rates_id JOIN plans_of ON plans_of.id = calls.plan_id "
            "WHERE (started, seq) > (?, ?) AND started >= ? AND started < ? ORDER BY started, seq LIMIT ?",
            (time, seq, first, last, limit),
        ).fetchall()
    return [((started, seq), _entry(row_id, started, rest)) for seq, row_id, started, *rest in found]


def _entry(row_id: str, started: int, rest: Sequence[Any]) -> LedgerEntry:
    *names, rates, card_hash, outcome, byo, estimated, member, hour, plan, plan_hash = rest
    fields: list[Any] = [*names[:-1], Decimal(names[-1]), rates, card_hash, outcome, bool(byo), bool(estimated)]
    return LedgerEntry(row_id, moment(started), *(*fields, member, hour, plan, plan_hash))
