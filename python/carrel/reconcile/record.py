"""What outlives a restart: how each file was read (a cache), each tenant's last good configuration, and how it stands.

One SQLite database under the state directory; see docs/adr/0030 and 0031. The cache may be thrown away at any time, the
rest may not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from carrel.clock import Clock, SystemClock
from carrel.durability import make_directory
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.reconcile import inventory, standing
from carrel.reconcile.inventory import Deleted, Inventory
from carrel.reconcile.parsed import DATABASE, models_digest
from carrel.reconcile.standing import Standing
from carrel.store.sqlite import open_database, transaction, translated

_OPERATORS: Final = "_operators"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parsed (file TEXT PRIMARY KEY, digest TEXT NOT NULL, entry TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS good (
  tenant TEXT PRIMARY KEY, digest TEXT NOT NULL, config TEXT NOT NULL, basis TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Good:
    """A configuration that was in force: the file's digest and the effective configuration's JSON.

    ``basis`` names all that the configuration follows from, ``before`` is set where it is from an earlier run.
    """

    digest: str
    config: str
    basis: str = ""
    before: bool = field(default=False, compare=False)


class Record:
    """The database. Satisfies `ParseCache` while it is warm. For one thread at a time."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._connection = connection
        self.inventory = Inventory(connection)
        self.standing = Standing(connection, clock)
        self._forgotten: set[TenantId] = set()
        self._models = models_digest()
        self._warm: dict[str, tuple[str, str]] = {}
        self._warm_good: dict[str, Good] = {}
        self._parsed: dict[str, tuple[str, str]] = {}
        self._good: dict[str, Good] = {}

    @classmethod
    def open(cls, state_dir: Path, clock: Clock | None = None) -> "Record":
        """The record in ``state_dir``, made where it is missing; raises StorageFull."""
        path = state_dir / DATABASE
        try:
            make_directory(path.parent)
        except OSError as error:
            raise CarrelError(f"The state directory cannot be written: {error.strerror}.") from error
        connection = open_database(path, schema=_upgrade)
        with translated():
            return cls(connection, clock or SystemClock())

    # --- the parse cache ---

    def warm(self) -> None:
        """Read everything into memory for a load of everything."""
        with translated():
            self._warm = {
                file: (digest, entry)
                for file, digest, entry in self._connection.execute("SELECT file, digest, entry FROM parsed")
            }
            self._warm_good = {
                tenant: Good(digest, config, basis, before=True)
                for tenant, digest, config, basis in self._connection.execute(
                    "SELECT tenant, digest, config, basis FROM good"
                )
            }

    def cool(self) -> None:
        """Let go of that memory: reading a single file again is quicker than keeping all of them."""
        self._warm, self._warm_good = {}, {}

    def get(self, name: str, digest: str) -> str | None:
        """The entry of that file with that content, None while the cache is not warm."""
        kept = self._warm.get(name)
        return kept[1] if kept is not None and kept[0] == digest else None

    def put(self, name: str, digest: str, entry: str) -> None:
        """Keep ``entry`` for the file; `flush` writes it."""
        self._parsed[name] = (digest, entry)

    def verdict(self, tenant: TenantId, basis: str) -> str | None:
        """The effective configuration that followed from ``basis`` before, None while the record is not warm."""
        kept = self._warm_good.get(tenant)
        return kept.config if kept is not None and kept.basis == f"{self._models}:{basis}" else None

    # --- the last good ---

    def keep(self, tenant: TenantId, digest: str, config: str, basis: str = "") -> None:
        """Remember what is in force for ``tenant``; `flush` writes it."""
        good = Good(digest, config, f"{self._models}:{basis}" if basis else "")
        before = self._warm_good.get(tenant)
        if before == good:
            return
        self._good[tenant] = good
        self._forgotten.discard(tenant)

    def forget(self, tenant: TenantId) -> None:
        """Nothing is left of the tenant; `flush` writes that."""
        self._good.pop(tenant, None)
        self._forgotten.add(tenant)
        self.standing.forget(tenant)

    def keep_operators(self, revision: str, document: Mapping[str, Any]) -> None:
        """Remember the operator's files."""
        text = json.dumps(document)
        before = self._warm_good.get(_OPERATORS)
        if before is None or (before.digest, before.config) != (revision, text):
            self._good[_OPERATORS] = Good(revision, text)

    def good(self, tenant: TenantId) -> Good | None:
        """What was last in force for ``tenant``."""
        return self._find(tenant)

    def good_operators(self) -> Mapping[str, Any] | None:
        """The operator's files as they were last in force, as JSON values by file."""
        found = self._find(_OPERATORS)
        return None if found is None else dict(json.loads(found.config))

    def digests(self) -> dict[str, str]:
        """The file's digest for each tenant that has a last good configuration."""
        if self._warm_good:
            return {tenant: good.digest for tenant, good in self._warm_good.items() if tenant != _OPERATORS}
        with translated():
            rows = self._connection.execute("SELECT tenant, digest FROM good WHERE tenant <> ?", (_OPERATORS,))
            return {str(tenant): str(digest) for tenant, digest in rows}

    def _find(self, key: str) -> Good | None:
        if key in self._forgotten:
            return None
        pending = self._good.get(key)
        if pending is not None:
            return pending
        if self._warm_good:
            return self._warm_good.get(key)
        with translated():
            row = self._connection.execute("SELECT digest, config, basis FROM good WHERE tenant = ?", (key,)).fetchone()
        return None if row is None else Good(str(row[0]), str(row[1]), str(row[2]), before=True)

    # --- writing ---

    def flush(self) -> None:
        """Write what is pending in one transaction; it stays pending where that fails. Raises StorageFull."""
        stores = [store for store in (self.inventory, self.standing) if store.pending]
        if not (self._parsed or self._good or self._forgotten or stores):
            return
        with transaction(self._connection):
            self._connection.executemany("DELETE FROM good WHERE tenant = ?", [(t,) for t in self._forgotten])
            self._connection.executemany(
                "INSERT OR REPLACE INTO parsed VALUES (?, ?, ?)",
                [(file, digest, entry) for file, (digest, entry) in self._parsed.items()],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO good VALUES (?, ?, ?, ?)",
                [(tenant, good.digest, good.config, good.basis) for tenant, good in self._good.items()],
            )
            for store in stores:
                store.write(self._connection)
        self._parsed, self._good, self._forgotten = {}, {}, set()
        for store in stores:
            store.written()

    def deletions(self, limit: int = 100) -> tuple[Deleted, ...]:
        """The last tenants that were deleted, newest first."""
        with translated():
            return inventory.deletions(self._connection, limit)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _upgrade(connection: apsw.Connection) -> None:
    """Make the tables, and throw the cache away where other models made it."""
    connection.execute(_SCHEMA)
    if all(column[1] != "basis" for column in connection.execute("PRAGMA table_info(good)")):
        connection.execute("ALTER TABLE good ADD COLUMN basis TEXT NOT NULL DEFAULT ''")
    connection.execute(standing.SCHEMA)
    inventory.begin(connection)
    models = models_digest()
    row = connection.execute("SELECT value FROM about WHERE key = 'models'").fetchone()
    if row is None or row[0] != models:
        connection.execute("DELETE FROM parsed")
        connection.execute("INSERT OR REPLACE INTO about VALUES ('models', ?)", (models,))
