"""Two ledgers of one tenant made one, after its directory was brought back from an earlier time.

What was charged stays charged: rows of the ledger that is in use come along, and those that only the other has too.
Blocks.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import apsw
import structlog

from carrel.declare.rate_card import TokenCounts
from carrel.durability import make_directory, sync_directory
from carrel.errors import CarrelError, Unavailable, lacking
from carrel.ids import TenantId
from carrel.metering.ledger import apply
from carrel.metering.rows import Row
from carrel.metering.tables import upgrade
from carrel.store.sqlite import Damaged, open_database, translated

_log = structlog.get_logger(__name__)
DAMAGED: Final = "damaged"
"""The directory beside a ledger where damaged ones are kept, as they were."""
_AT_ONCE: Final = 1000
_BLOCK: Final = 1 << 20
_CONTENT: Final = ("", "-wal")
"""The ends of the names of what a ledger's rows are in."""
_ONLY_OTHER: Final = """
SELECT c.id, started, ended, request_id, provider_request_id, session_id, agent, model, input_tokens,
  cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cache_write_1h_tokens, tool_calls, cost_usd,
  rate_snapshot, rate_card_hash, outcome, byo, estimated, member, plan, plan_hash
FROM other.calls c JOIN other.rates r ON r.id = c.rates_id JOIN other.plans_of p ON p.id = c.plan_id
WHERE NOT EXISTS (SELECT 1 FROM main.calls m WHERE m.id = c.id) ORDER BY c.seq"""


@dataclass(frozen=True, slots=True)
class United:
    """``added`` is how many rows only the other had; ``put_by`` names damaged ledgers that are kept as they were."""

    added: int = 0
    put_by: tuple[str, ...] = ()


def unite(used: Path, other: Path, tenant: TenantId) -> United:
    """Put in the place of the ledger ``other`` one with the rows of both.

    ``used`` stays as it is. One that is damaged is put by beside ``other``, byte by byte, and the rows of the one that
    is whole count; where neither is, ``other`` stays. Raises StorageFull, and CarrelError for a ledger of a later
    version.
    """
    made, theirs = (other.with_name(f"{other.name}.{word}") for word in ("united", "other"))
    put_by: tuple[str, ...] = ()
    added = 0
    try:
        if not _copied(used, made):
            _log.error("a ledger is damaged: what it alone had is put by", tenant=tenant)
            return United(0, _put_by(used, other.parent))
        if other.exists():
            if _copied(other, theirs):
                added = _add(made, theirs, tenant)
            else:
                _log.error("a ledger is damaged: the other takes its place, and it is put by", tenant=tenant)
                put_by = _put_by(other, other.parent)
        remove_ledger(other)
        made.rename(other)
        sync_directory(other.parent)
    except OSError as error:
        raise _public(error) from error
    finally:
        for left in (made, theirs):
            remove_ledger(left)
    return United(added, put_by)


def _add(made: Path, other: Path, tenant: TenantId) -> int:
    connection = open_database(made, schema=upgrade)
    try:
        open_database(other, schema=upgrade).close()
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


def _copied(source: Path, target: Path) -> bool:
    """Make ``target`` a copy of the ledger ``source``, which stays as it is; False where that is damaged."""
    remove_ledger(target)
    try:
        with _held(source):
            for end in _CONTENT:
                if end == "" or source.with_name(source.name + end).exists():
                    _copy(source.with_name(source.name + end), target.with_name(target.name + end))
        with translated():
            connection = apsw.Connection(str(target))
            try:
                wrong: Any = connection.execute("PRAGMA quick_check(1)").fetchone()
                connection.pragma("journal_mode", "delete")
            finally:
                connection.close()
    except Damaged:
        return False
    return bool(wrong[0] == "ok")


@contextmanager
def _held(ledger: Path) -> Iterator[None]:
    """Within it no reader's end, such as a report's, moves the log into the ledger. One that does not open has none."""
    log = ledger.with_name(f"{ledger.name}-wal")
    with ExitStack() as stack:
        with suppress(apsw.Error):
            connection = stack.enter_context(closing(apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READWRITE)))
            if log.exists() and log.stat().st_size:
                # Nor does the end of this one.
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        yield


def _put_by(ledger: Path, usage: Path) -> tuple[str, ...]:
    """Keep a damaged ledger beneath ``usage``, under a name of its content; its paths beneath that."""
    place = usage / DAMAGED
    make_directory(place)
    digest = hashlib.sha256()
    files = [file for file in (ledger.with_name(ledger.name + end) for end in _CONTENT) if file.exists()]
    try:
        for file in files:
            for block in _blocks(file):
                digest.update(block)
    except Damaged:
        # Nobody reads it any more: there is nothing of it to be kept.
        return ()
    kept = []
    for file in files:
        name = f"ledger-{digest.hexdigest()[:16]}{file.name.removeprefix(ledger.name)}"
        half = place / f".{name}"
        half.unlink(missing_ok=True)
        _copy(file, half)
        half.rename(place / name)
        kept.append(f"{DAMAGED}/{name}")
    sync_directory(place)
    return tuple(kept)


def _copy(source: Path, target: Path) -> None:
    """Copy one file, onto the disk. Raises Damaged where it cannot be read, OSError where it cannot be written."""
    written = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for block in _blocks(source):
            view = memoryview(block)
            while view:
                view = view[os.write(written, view) :]
        os.fsync(written)
    finally:
        os.close(written)


def _blocks(source: Path) -> Iterator[bytes]:
    """The content of a file; raises Damaged where the disk does not give it."""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(error) from error
    try:
        while block := _block(fd):
            yield block
    finally:
        os.close(fd)


def _block(fd: int) -> bytes:
    try:
        return os.read(fd, _BLOCK)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> CarrelError:
    lacks = _public(error)
    return lacks if isinstance(lacks, Unavailable) else Damaged("A ledger cannot be read.")


def _public(error: OSError) -> CarrelError:
    return lacking(error, "nothing was changed") or CarrelError(
        f"A ledger could not be copied: {os.strerror(error.errno or 0)}."
    )


def remove_ledger(database: Path) -> None:
    """Take a ledger away, with what SQLite keeps beside it; nothing where there is none. Nobody may have it open."""
    for end in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + end).unlink(missing_ok=True)
