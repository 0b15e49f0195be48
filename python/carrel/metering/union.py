"""Two ledgers of one tenant made one, after its directory was brought back from an earlier time.

What was charged stays charged: rows of the ledger that is in use come along, and those that only the other has too.
Blocks.
"""

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import apsw
import structlog

from carrel.declare.rate_card import TokenCounts
from carrel.ids import TenantId
from carrel.metering.ledger import apply
from carrel.metering.rows import Row
from carrel.metering.tables import upgrade
from carrel.store.sqlite import Damaged, open_database, translated

_log = structlog.get_logger(__name__)
_AT_ONCE: Final = 1000
_ONLY_OTHER: Final = """
SELECT c.id, started, ended, request_id, provider_request_id, session_id, agent, model, input_tokens,
  cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cache_write_1h_tokens, tool_calls, cost_usd,
  rate_snapshot, rate_card_hash, outcome, byo, estimated, member, plan, plan_hash
FROM other.calls c JOIN other.rates r ON r.id = c.rates_id JOIN other.plans_of p ON p.id = c.plan_id
WHERE NOT EXISTS (SELECT 1 FROM main.calls m WHERE m.id = c.id) ORDER BY c.seq"""


def unite(used: Path, other: Path, tenant: TenantId) -> int:
    """Put in the place of the ledger ``other`` one with the rows of both; how many rows only ``other`` had.

    ``used`` stays as it is. Where it is damaged, ``other`` does too: a ledger that is whole is what a restore is for.
    Raises StorageFull, and CarrelError for a ledger that cannot be read.
    """
    made = other.with_name(f"{other.name}.united")
    remove_ledger(made)
    try:
        try:
            _copy(used, made)
        except Damaged as error:
            _log.error("a ledger is damaged: what it alone had is not carried over", tenant=tenant, error=error.message)
            return 0
        added = 0
        if other.exists():
            open_database(other, schema=upgrade).close()
            added = _add(made, other, tenant)
        remove_ledger(other)
        made.rename(other)
        directory = os.open(other.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        remove_ledger(made)
    return added


def _add(made: Path, other: Path, tenant: TenantId) -> int:
    connection = open_database(made, schema=upgrade)
    try:
        with translated():
            connection.execute("ATTACH ? AS other", (str(other),))
            missing = [row.values for row in _rows(connection, tenant)]
            connection.execute("DETACH other")
        for at in range(0, len(missing), _AT_ONCE):
            apply(connection, missing[at : at + _AT_ONCE])
        return len(missing)
    finally:
        connection.close()


def _rows(connection: apsw.Connection, tenant: TenantId) -> Iterator[Row]:
    found: Any
    for found in connection.execute(_ONLY_OTHER):
        row_id, started, ended, request, provider, session, agent, model, *rest = found
        tool_calls, cost, rates, card_hash, outcome, byo, estimated, member, plan, plan_hash = rest[6:]
        yield Row(
            row_id, tenant, started, ended, request, provider, session, agent, model, TokenCounts(*rest[:6]),
            tool_calls, Decimal(cost), rates, card_hash, outcome, bool(byo), bool(estimated), member, plan, plan_hash,
        )  # fmt: skip


def _copy(source: Path, target: Path) -> None:
    with translated():
        read = open_database(source)
        try:
            written = apsw.Connection(str(target))
            try:
                with written.backup("main", read, "main") as work:
                    work.step(-1)
                wrong: Any = written.execute("PRAGMA quick_check(1)").fetchone()
                if wrong[0] != "ok":
                    raise Damaged("A database is damaged; the operator's log says which.")
            finally:
                written.close()
        finally:
            read.close()


def remove_ledger(database: Path) -> None:
    """Take a ledger away, with what SQLite keeps beside it; nothing where there is none. Nobody may have it open."""
    for end in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + end).unlink(missing_ok=True)
