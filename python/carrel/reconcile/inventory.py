"""The inventory: which tenants' directories Carrel made, and how far the removal of one has come.

Only what is in it is ever deleted. Each step of a deletion is in it before the step is taken, so that a kill at any
moment leaves a deletion that can be gone on with. For the reconciler's thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import apsw

from carrel.ids import TenantId

Stage = Literal["", "backup", "deleting"]
KEPT: Final = 1000
"""Deletions that are remembered."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS inventory (
  tenant TEXT PRIMARY KEY, made TEXT NOT NULL, removed TEXT, stage TEXT NOT NULL, backup TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deleted (
  seq INTEGER PRIMARY KEY, tenant TEXT NOT NULL, at TEXT NOT NULL, backup TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Owned:
    """One tenant that Carrel made. ``removed`` is when its declaration went; ``backup`` names its final backup.

    ``stage``: empty while its data is simply kept, `backup` while the final one is made, `deleting` once that is safe.
    """

    made: datetime
    removed: datetime | None = None
    stage: Stage = ""
    backup: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """A tenant that is gone, and where its final backup is."""

    tenant: str
    at: datetime
    backup: str


class Inventory:
    """The rows, all in memory. What changes is written by `write`, in the record's transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        rows = connection.execute("SELECT tenant, made, removed, stage, backup FROM inventory")
        self._owned = {
            TenantId(str(tenant)): Owned(
                _read(made), None if removed is None else _read(removed), _stage(stage), backup
            )
            for tenant, made, removed, stage, backup in rows
        }
        self._changed: set[TenantId] = set()
        self._deleted: list[Deleted] = []

    def get(self, tenant: TenantId) -> Owned | None:
        """What is known of ``tenant``; None where Carrel did not make it."""
        return self._owned.get(tenant)

    def items(self) -> Iterator[tuple[TenantId, Owned]]:
        """All of them."""
        return iter(self._owned.items())

    def own(self, tenant: TenantId, now: datetime) -> None:
        """The tenant is declared: it is Carrel's, and a removal that was under way is not."""
        owned = self._owned.get(tenant)
        if owned is None:
            self._put(tenant, Owned(now))
        elif owned.removed is not None:
            self._put(tenant, Owned(owned.made))

    def remove(self, tenant: TenantId, now: datetime) -> None:
        """The tenant is no longer declared, from ``now`` on, where that was not known before."""
        owned = self._owned.get(tenant)
        if owned is not None and owned.removed is None:
            self._put(tenant, replace(owned, removed=now))

    def advance(self, tenant: TenantId, stage: Stage, *, backup: str = "") -> None:
        """A deletion goes on; ``backup`` names what was made."""
        owned = self._owned[tenant]
        self._put(tenant, replace(owned, stage=stage, backup=backup or owned.backup))

    def drop(self, tenant: TenantId, now: datetime) -> None:
        """The tenant is gone with all its data."""
        owned = self._owned.pop(tenant, None)
        self._changed.add(tenant)
        if owned is not None:
            self._deleted.append(Deleted(tenant, now, owned.backup))

    def _put(self, tenant: TenantId, owned: Owned) -> None:
        self._owned[tenant] = owned
        self._changed.add(tenant)

    @property
    def pending(self) -> bool:
        """Whether something is to be written."""
        return bool(self._changed or self._deleted)

    def write(self, connection: apsw.Connection) -> None:
        """Write what changed, within a transaction; `written` when that is committed."""
        gone = [(tenant,) for tenant in self._changed if tenant not in self._owned]
        connection.executemany("DELETE FROM inventory WHERE tenant = ?", gone)
        connection.executemany(
            "INSERT OR REPLACE INTO inventory VALUES (?, ?, ?, ?, ?)",
            [_row(tenant, self._owned[tenant]) for tenant in self._changed if tenant in self._owned],
        )
        connection.executemany(
            "INSERT INTO deleted (tenant, at, backup) VALUES (?, ?, ?)",
            [(it.tenant, it.at.isoformat(), it.backup) for it in self._deleted],
        )
        if self._deleted:
            connection.execute("DELETE FROM deleted WHERE seq <= (SELECT max(seq) FROM deleted) - ?", (KEPT,))

    def written(self) -> None:
        """What `write` wrote is committed."""
        self._changed, self._deleted = set(), []


def deletions(connection: apsw.Connection, limit: int) -> tuple[Deleted, ...]:
    """The last ``limit`` that were deleted, newest first."""
    rows = connection.execute("SELECT tenant, at, backup FROM deleted ORDER BY seq DESC LIMIT ?", (limit,))
    return tuple(Deleted(str(tenant), _read(at), str(backup)) for tenant, at, backup in rows)


def begin(connection: apsw.Connection) -> None:
    """Make the tables. Tenants that were in force before there was an inventory are in it."""
    connection.execute(SCHEMA)
    if connection.execute("SELECT value FROM about WHERE key = 'inventory'").fetchone() is None:
        now = datetime.now(UTC).isoformat()
        connection.execute(
            "INSERT OR IGNORE INTO inventory SELECT tenant, ?, NULL, '', '' FROM good WHERE tenant NOT LIKE '\\_%' "
            "ESCAPE '\\'",
            (now,),
        )
        connection.execute("INSERT OR REPLACE INTO about VALUES ('inventory', '1')")


def _row(tenant: TenantId, owned: Owned) -> tuple[str, str, str | None, str, str]:
    removed = None if owned.removed is None else owned.removed.isoformat()
    return tenant, owned.made.isoformat(), removed, owned.stage, owned.backup


def _read(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def _stage(text: object) -> Stage:
    match text:
        case "backup" | "deleting":
            return text
        case _:
            return ""
