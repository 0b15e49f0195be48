"""The tables of a tenant's ledger, version by version, and how an older one is brought up to date.

``calls`` is what is stored, the view ``ledger`` shows it under the contract's names. ``rollups`` and
``session_rollups`` are what calls of a UTC day add up to: made from the calls, and made anew from them at any time.
"""

from typing import Any, Final

import apsw

from carrel.errors import CarrelError
from carrel.metering.addition import KEYS, SUMS, counted, prepare

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
_SUMS_OF: Final = """
  calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL, tool_calls INTEGER NOT NULL, cost_usd TEXT NOT NULL"""
# `tier` is the prompt's length that the call's rates are held for calls above of, 0 for the model's own.
_SINCE_5: Final = f"""
CREATE TABLE rollups(
  date TEXT NOT NULL, model TEXT NOT NULL, rates_id INTEGER NOT NULL, plan_id INTEGER NOT NULL, byo INTEGER NOT NULL,
  tier INTEGER NOT NULL, agent TEXT NOT NULL, member TEXT NOT NULL, {_SUMS_OF},
  PRIMARY KEY({KEYS["rollups"]})) STRICT, WITHOUT ROWID;
CREATE TABLE session_rollups(
  date TEXT NOT NULL, model TEXT NOT NULL, session_id TEXT NOT NULL, {_SUMS_OF},
  PRIMARY KEY({KEYS["session_rollups"]})) STRICT, WITHOUT ROWID;
DROP TABLE days;
"""
SCHEMAS: Final = (_SCHEMA, _SINCE_2, _SINCE_3, _SINCE_4, _SINCE_5)
"""What makes each version of the one before."""
VERSION: Final = len(SCHEMAS)


def upgrade(connection: apsw.Connection) -> None:
    """Bring a ledger's tables up to date, and its connection to what sums are made with.

    Raises CarrelError for one of a later version.
    """
    prepare(connection)
    version = connection.pragma("user_version")
    if not 0 <= version <= VERSION:
        raise CarrelError(f"A ledger is of version {version}, which this Carrel does not know: use a newer one.")
    for schema in SCHEMAS[version:]:
        connection.execute(schema)
    if version != VERSION:
        if 0 < version < 5:
            longest = _longest_cost(connection)
            for table in KEYS:
                connection.execute(f"INSERT INTO {table}({KEYS[table]}, {SUMS}) {counted(table, longest)}")
        connection.pragma("user_version", VERSION)


def _longest_cost(connection: apsw.Connection) -> int:
    """How many characters the longest cost of a call has."""
    found: Any = connection.execute("SELECT max(length(cost_usd)) FROM calls").fetchone()
    return int(found[0] or 0)
