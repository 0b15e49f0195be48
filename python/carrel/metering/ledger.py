"""A tenant's ledger on the disk: the calls, append-only, and their sums by day and model in the same transaction.

Blocks: for the ledger's own thread. ``calls`` is what is stored, the view ``ledger`` shows it under the contract's
names. Money is exact decimal text; SQLite never adds it up.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal

import apsw

from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.metering.protocol import ToolEnding
from carrel.metering.rows import Row, micros, moment
from carrel.policy.periods import Period
from carrel.policy.pricing import add, plain, total_of
from carrel.store.sqlite import AlreadyThere, open_database, transaction, translated
from carrel.tenancy.paths import TenantRoot

NAME: Final = "ledger.sqlite"
VERSION: Final = 4
_DAY_MICROSECONDS: Final = 86_400_000_000
_SCHEMA: Final = """
CREATE TABLE rates(
  id INTEGER PRIMARY KEY, rate_card_hash TEXT NOT NULL, rate_snapshot TEXT NOT NULL,
  UNIQUE(rate_card_hash, rate_snapshot)) STRICT;
CREATE TABLE calls(
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, started INTEGER NOT NULL, ended INTEGER NOT NULL,
  request_id TEXT NOT NULL, provider_request_id TEXT NOT NULL, session_id TEXT NOT NULL, agent TEXT NOT NULL,
  model TEXT NOT NULL, input_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
  tool_calls INTEGER NOT NULL, cost_usd TEXT NOT NULL, rates_id INTEGER NOT NULL REFERENCES rates(id),
  outcome TEXT NOT NULL, byo INTEGER NOT NULL, estimated INTEGER NOT NULL) STRICT;
CREATE INDEX calls_by_time ON calls(started);
CREATE TABLE days(
  date TEXT NOT NULL, model TEXT NOT NULL, calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL, cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
  reasoning_tokens INTEGER NOT NULL, tool_calls INTEGER NOT NULL, cost_usd TEXT NOT NULL,
  PRIMARY KEY(date, model)) STRICT, WITHOUT ROWID;
CREATE TRIGGER calls_are_not_changed BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER calls_are_not_deleted BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER rates_are_not_changed BEFORE UPDATE ON rates BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER rates_are_not_deleted BEFORE DELETE ON rates BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE VIEW ledger AS SELECT
  strftime('%Y-%m-%dT%H:%M:%S', started / 1000000, 'unixepoch') || printf('.%06dZ', started % 1000000) AS timestamp,
  request_id, provider_request_id, session_id, agent, model, input_tokens, cache_read_tokens, cache_write_tokens,
  output_tokens, reasoning_tokens, tool_calls, cost_usd, rate_snapshot, rate_card_hash, outcome, byo, estimated,
  calls.id AS id FROM calls JOIN rates ON rates.id = calls.rates_id;
"""
_SINCE_2: Final = """
CREATE TABLE tool_endings_of(
  seq INTEGER PRIMARY KEY, ended INTEGER NOT NULL, request_id TEXT NOT NULL, session_id TEXT NOT NULL,
  agent TEXT NOT NULL, tool TEXT NOT NULL, call_id TEXT NOT NULL, ending TEXT NOT NULL, seconds REAL NOT NULL) STRICT;
CREATE INDEX tool_endings_by_time ON tool_endings_of(ended);
CREATE TRIGGER endings_are_not_changed BEFORE UPDATE ON tool_endings_of BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER endings_are_not_deleted BEFORE DELETE ON tool_endings_of BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE VIEW tool_endings AS SELECT
  strftime('%Y-%m-%dT%H:%M:%S', ended / 1000000, 'unixepoch') || printf('.%06dZ', ended % 1000000) AS timestamp,
  request_id, session_id, agent, tool, call_id, ending AS outcome, seconds FROM tool_endings_of;
"""
# Columns with a default are added without a row being written: what is there stays as it was, to the byte.
_SINCE_3: Final = """
ALTER TABLE calls ADD COLUMN member TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE days ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0;
DROP VIEW ledger;
CREATE VIEW ledger AS SELECT
  strftime('%Y-%m-%dT%H:%M:%S', started / 1000000, 'unixepoch') || printf('.%06dZ', started % 1000000) AS timestamp,
  request_id, provider_request_id, session_id, agent, model, input_tokens, cache_read_tokens, cache_write_tokens,
  output_tokens, reasoning_tokens, tool_calls, cost_usd, rate_snapshot, rate_card_hash, outcome, byo, estimated,
  calls.id AS id, member, cache_write_1h_tokens FROM calls JOIN rates ON rates.id = calls.rates_id;
"""
_SINCE_4: Final = """
CREATE TABLE plans_of(
  id INTEGER PRIMARY KEY, plan TEXT NOT NULL, plan_hash TEXT NOT NULL, UNIQUE(plan, plan_hash)) STRICT;
CREATE TRIGGER plans_are_not_changed BEFORE UPDATE ON plans_of BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER plans_are_not_deleted BEFORE DELETE ON plans_of BEGIN SELECT RAISE(ABORT, 'append-only'); END;
INSERT INTO plans_of VALUES (0, '', '');
ALTER TABLE calls ADD COLUMN plan_id INTEGER NOT NULL DEFAULT 0;
DROP VIEW ledger;
CREATE VIEW ledger AS SELECT
  strftime('%Y-%m-%dT%H:%M:%S', started / 1000000, 'unixepoch') || printf('.%06dZ', started % 1000000) AS timestamp,
  request_id, provider_request_id, session_id, agent, model, input_tokens, cache_read_tokens, cache_write_tokens,
  output_tokens, reasoning_tokens, tool_calls, cost_usd, rate_snapshot, rate_card_hash, outcome, byo, estimated,
  calls.id AS id, member, cache_write_1h_tokens, plan, plan_hash
  FROM calls JOIN rates ON rates.id = calls.rates_id JOIN plans_of ON plans_of.id = calls.plan_id;
"""
SCHEMAS: Final = (_SCHEMA, _SINCE_2, _SINCE_3, _SINCE_4)
"""What makes each version of the one before."""
_COLUMNS: Final = (
    "id, started, ended, request_id, provider_request_id, session_id, agent, model, input_tokens, cache_read_tokens, "
    "cache_write_tokens, output_tokens, reasoning_tokens, tool_calls, cost_usd, rates_id, outcome, byo, estimated, "
    "member, cache_write_1h_tokens, plan_id"
)
_PLACES: Final = "(" + ",".join("?" * (_COLUMNS.count(",") + 1)) + ")"
# Many rows in one statement: each statement takes the interpreter's lock from the event loop and gives it back.
_INSERTS: Final = tuple(
    (count, f"INSERT INTO calls({_COLUMNS}) VALUES {','.join([_PLACES] * count)}")  # noqa: S608 - constants
    for count in (64, 8, 1)
)
_DAY: Final = (
    "INSERT OR REPLACE INTO days(date, model, calls, input_tokens, cache_read_tokens, cache_write_tokens, "
    "output_tokens, reasoning_tokens, cache_write_1h_tokens, tool_calls, cost_usd) VALUES (?,?,?,?,?,?,?,?,?,?,?)"
)
_SUMS: Final = (
    "calls, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, "
    "cache_write_1h_tokens, tool_calls, cost_usd"
)


Split = Literal["agent", "session", "member"]
"""What a report is by, beside day and model."""
_SPLITS: Final[Mapping[Split, str]] = {"agent": "agent", "session": "session_id", "member": "member"}


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


def upgrade(connection: apsw.Connection) -> None:
    """Bring a ledger's tables up to date; raises CarrelError for one of a later version."""
    version = connection.pragma("user_version")
    if not 0 <= version <= VERSION:
        raise CarrelError(f"A ledger is of version {version}, which this Carrel does not know: use a newer one.")
    for schema in SCHEMAS[version:]:
        connection.execute(schema)
    if version != VERSION:
        connection.pragma("user_version", VERSION)


def apply(connection: apsw.Connection, rows: Sequence[Row]) -> dict[tuple[date, str], Sums]:
    """Write ``rows`` in one transaction; those that are there already are left out. Raises StorageFull.

    Returns the sums of what was written, by day and model.
    """
    try:
        with transaction(connection):
            return _write(connection, rows)
    except AlreadyThere:
        with transaction(connection):
            return _write(connection, missing(connection, rows))


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


def _write(connection: apsw.Connection, rows: Sequence[Row]) -> dict[tuple[date, str], Sums]:
    rates: dict[tuple[str, str], int] = {}
    plans: dict[tuple[str, str], int] = {("", ""): 0}
    values: list[tuple[Any, ...]] = []
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        key = (row.card_hash, row.rates)
        if key not in rates:
            rates[key] = _rates_id(connection, key)
        plan = (row.plan, row.plan_hash)
        if plan not in plans:
            plans[plan] = _plan_id(connection, plan)
        c = row.counts
        values.append((
            row.id, row.started, row.ended, row.request_id, row.provider_request_id, row.session_id, row.agent,
            row.model, c.input, c.cache_read, c.cache_write, c.output, c.reasoning, row.tool_calls, plain(row.cost),
            rates[key], row.outcome, int(row.byo), int(row.estimated), row.member, c.cache_write_1h,
            plans[plan],
        ))  # fmt: skip
        groups.setdefault((row.started // _DAY_MICROSECONDS, row.model), []).append(row)
    _insert(connection, values)
    written = {(some[0].day, model): _total(some) for (_, model), some in groups.items()}
    for (day, model), sums in written.items():
        key = (day.isoformat(), model)
        found = connection.execute(f"SELECT {_SUMS} FROM days WHERE date=? AND model=?", key).fetchone()  # noqa: S608 - constants
        total = sums + _sums(found) if found else sums
        c = total.counts
        connection.execute(
            _DAY,
            (*key, total.calls, c.input, c.cache_read, c.cache_write, c.output, c.reasoning, c.cache_write_1h,
             total.tool_calls, plain(total.cost)),
        )  # fmt: skip
    return written


def _insert(connection: apsw.Connection, values: Sequence[tuple[Any, ...]]) -> None:
    at = 0
    for count, statement in _INSERTS:
        while len(values) - at >= count:
            connection.execute(statement, tuple(chain.from_iterable(values[at : at + count])))
            at += count


def _total(rows: Sequence[Row]) -> Sums:
    counts = [row.counts for row in rows]
    return Sums(
        len(rows),
        TokenCounts(
            sum(c.input for c in counts), sum(c.cache_read for c in counts), sum(c.cache_write for c in counts),
            sum(c.output for c in counts), sum(c.reasoning for c in counts), sum(c.cache_write_1h for c in counts),
        ),
        sum(row.tool_calls for row in rows),
        total_of(row.cost for row in rows),
    )  # fmt: skip


def _rates_id(connection: apsw.Connection, key: tuple[str, str]) -> int:
    connection.execute("INSERT OR IGNORE INTO rates(rate_card_hash, rate_snapshot) VALUES (?,?)", key)
    found: Any = connection.execute("SELECT id FROM rates WHERE rate_card_hash=? AND rate_snapshot=?", key).fetchone()
    return int(found[0])


def _plan_id(connection: apsw.Connection, key: tuple[str, str]) -> int:
    connection.execute("INSERT OR IGNORE INTO plans_of(plan, plan_hash) VALUES (?,?)", key)
    found: Any = connection.execute("SELECT id FROM plans_of WHERE plan=? AND plan_hash=?", key).fetchone()
    return int(found[0])


def _sums(found: Sequence[Any]) -> Sums:
    calls, *counts, tool_calls, cost = found
    return Sums(calls, TokenCounts(*counts), tool_calls, Decimal(cost))


def sums_by_day(connection: apsw.Connection, period: Period) -> dict[tuple[date, str], Sums]:
    """The sums of each day and model of ``period``."""
    with translated():
        found: list[Any] = connection.execute(
            f"SELECT date, model, {_SUMS} FROM days WHERE date BETWEEN ? AND ?",  # noqa: S608 - constants
            (period.first.isoformat(), period.last.isoformat()),
        ).fetchall()
    return {(date.fromisoformat(day), model): _sums(rest) for day, model, *rest in found}


def sums_split(connection: apsw.Connection, period: Period, split: Split) -> dict[tuple[date, str, str], Sums]:
    """The sums of each day, model and agent, session or member of ``period``, from its rows: as long as those are many.

    Money is added up exactly, by a function of ours.
    """
    connection.create_aggregate_function("exact_sum", _exact_sum, 1)
    column = _SPLITS[split]
    with translated():
        found: list[Any] = connection.execute(
            f"SELECT started / {_DAY_MICROSECONDS}, model, {column}, count(*), sum(input_tokens), "  # noqa: S608 - constants
            "sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), "
            "sum(cache_write_1h_tokens), sum(tool_calls), exact_sum(cost_usd) FROM calls "
            "WHERE started >= ? AND started < ? GROUP BY 1, 2, 3",
            (micros(period.start), micros(period.end)),
        ).fetchall()
    return {(moment(day * _DAY_MICROSECONDS).date(), model, key): _sums(rest) for day, model, key, *rest in found}


def _exact_sum() -> tuple[list[Decimal], Callable[..., None], Callable[..., str]]:
    def step(state: list[Decimal], cost: str) -> None:
        state[0] = add(state[0], Decimal(cost))

    def final(state: list[Decimal]) -> str:
        return plain(state[0])

    return [Decimal(0)], step, final


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
