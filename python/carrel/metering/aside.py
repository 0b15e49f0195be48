"""Rows that no ledger takes, in files: until their tenant's ledger can be opened again, or for the operator.

A ledger that is broken must not hold the journal, which is everybody's. It must not know what is wrong with the ledger.
Blocks: for the ledgers' own thread.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter, ValidationError

from carrel.durability import make_directory, sync_directory
from carrel.errors import CarrelError, StorageFailed, lacking
from carrel.ids import TenantId, parse_tenant_id
from carrel.metering.rows import Row, Values
from carrel.policy.pricing import plain

ORPHANS: Final = "orphans.jsonl"
WAITING: Final = "waiting"
SUFFIX: Final = ".jsonl"
_log = structlog.get_logger(__name__)
_VALUES: Final[TypeAdapter[Values]] = TypeAdapter(Values)


class Aside:
    """The files of one gateway, in its directory ``metering``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting = directory / WAITING

    def path(self, tenant: TenantId) -> Path:
        """Where rows of ``tenant`` wait."""
        return self._waiting / f"{tenant}{SUFFIX}"

    def keep(self, tenant: TenantId, rows: Sequence[Values]) -> None:
        """Add ``rows`` to those that wait for the tenant's ledger, on the disk. Raises StorageFailed."""
        self._append(self.path(tenant), [json.dumps(values) for values in rows])

    def read(self) -> dict[TenantId, list[Values]]:
        """The rows that wait, by tenant, each once. Raises StorageFailed."""
        found: dict[TenantId, list[Values]] = {}
        for path in sorted(self._waiting.glob(f"*{SUFFIX}")):
            try:
                tenant, lines = parse_tenant_id(path.name.removesuffix(SUFFIX)), path.read_bytes().splitlines()
            except OSError as error:
                raise _refused(error) from error
            except CarrelError:
                _log.error("a file of waiting rows names no tenant and is left alone", file=path.name)
                continue
            rows: dict[str, Values] = {}
            for line in filter(None, lines):
                try:
                    values = _VALUES.validate_json(line)
                except ValidationError:
                    # Torn: then nobody was told that it is here, and the journal has it.
                    _log.error("a line of waiting rows makes no sense and is left out", file=path.name)
                else:
                    rows[values[0]] = values
            found[tenant] = list(rows.values())
        return found

    def drop(self, tenant: TenantId) -> None:
        """Take the tenant's file away: its rows are in its ledger. Raises StorageFailed."""
        try:
            self.path(tenant).unlink(missing_ok=True)
            sync_directory(self._waiting)
        except OSError as error:
            raise _refused(error) from error

    def orphan(self, tenant: TenantId, rows: Sequence[Values]) -> None:
        """Keep ``rows`` of a tenant whose directory is gone for the operator. Raises StorageFailed."""
        self._append(self._directory / ORPHANS, [_orphan(Row.of(tenant, values)) for values in rows])

    def _append(self, path: Path, lines: Sequence[str]) -> None:
        try:
            make_directory(path.parent)
            new = not path.exists()
            # A line of its own first: what went before may be torn.
            with path.open("a", encoding="utf-8") as file:
                file.write("".join(f"\n{line}" for line in lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_directory(path.parent)
        except OSError as error:
            raise _refused(error) from error


def _refused(error: OSError) -> CarrelError:
    return lacking(error, "nothing was written") or StorageFailed("The disk takes nothing.")


def _orphan(row: Row) -> str:
    c = row.counts
    return json.dumps({
        "tenant": row.tenant, "id": row.id, "started": row.started, "request_id": row.request_id,
        "model": row.model, "outcome": row.outcome, "cost_usd": plain(row.cost), "rates": row.rates,
        "tokens": [c.input, c.cache_read, c.cache_write, c.output, c.reasoning, c.cache_write_1h],
        "member": row.member,
    })  # fmt: skip
