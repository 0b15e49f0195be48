"""What outlives a restart: how each file was read (a cache), and each tenant's last good configuration.

One SQLite database under the state directory; see docs/adr/0030 and 0031. The cache may be thrown away at any time, the
last good configurations may not.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from carrel import declare
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.store.sqlite import open_database, translated

_OPERATORS: Final = "_operators"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parsed (file TEXT PRIMARY KEY, digest TEXT NOT NULL, entry TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS good (tenant TEXT PRIMARY KEY, digest TEXT NOT NULL, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Good:
    """A configuration that was in force: the file's digest and the effective configuration's JSON."""

    digest: str
    config: str


class Record:
    """The database. Satisfies `ParseCache` while it is warm. For one thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._warm: dict[str, tuple[str, str]] = {}
        self._parsed: dict[str, tuple[str, str]] = {}
        self._good: dict[str, Good] = {}

    @classmethod
    def open(cls, state_dir: Path) -> "Record":
        """The record in ``state_dir``, made where it is missing; raises StorageFull."""
        directory = state_dir / "reconcile"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CarrelError(f"The state directory cannot be written: {error.strerror}.") from error
        return cls(open_database(directory / "declared.sqlite", schema=_upgrade))

    # --- the parse cache ---

    def warm(self) -> None:
        """Read the cache into memory for a load of everything."""
        with translated():
            rows = self._connection.execute("SELECT file, digest, entry FROM parsed")
            self._warm = {str(file): (str(digest), str(entry)) for file, digest, entry in rows}

    def cool(self) -> None:
        """Let go of the cache's memory: reading a single file again is quicker than keeping all of them."""
        self._warm = {}

    def get(self, name: str, digest: str) -> str | None:
        """The entry of that file with that content, None while the cache is not warm."""
        kept = self._warm.get(name)
        return kept[1] if kept is not None and kept[0] == digest else None

    def put(self, name: str, digest: str, entry: str) -> None:
        """Keep ``entry`` for the file; `flush` writes it."""
        self._parsed[name] = (digest, entry)

    # --- the last good ---

    def keep(self, tenant: TenantId, digest: str, config: str) -> None:
        """Remember what is in force for ``tenant``; `flush` writes it."""
        self._good[tenant] = Good(digest, config)

    def keep_operators(self, revision: str, document: Mapping[str, Any]) -> None:
        """Remember the operator's files."""
        self._good[_OPERATORS] = Good(revision, json.dumps(document))

    def good(self, tenant: TenantId) -> Good | None:
        """What was last in force for ``tenant``."""
        return self._find(tenant)

    def good_operators(self) -> Mapping[str, Any] | None:
        """The operator's files as they were last in force, as JSON values by file."""
        found = self._find(_OPERATORS)
        return None if found is None else dict(json.loads(found.config))

    def digests(self) -> dict[str, str]:
        """The file's digest for each tenant that has a last good configuration."""
        with translated():
            rows = self._connection.execute("SELECT tenant, digest FROM good WHERE tenant <> ?", (_OPERATORS,))
            return {str(tenant): str(digest) for tenant, digest in rows}

    def _find(self, key: str) -> Good | None:
        pending = self._good.get(key)
        if pending is not None:
            return pending
        with translated():
            row = self._connection.execute("SELECT digest, config FROM good WHERE tenant = ?", (key,)).fetchone()
        return None if row is None else Good(str(row[0]), str(row[1]))

    # --- writing ---

    def flush(self) -> None:
        """Write what is pending in one transaction; it stays pending where that fails. Raises StorageFull."""
        if not self._parsed and not self._good:
            return
        with translated(), self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO parsed VALUES (?, ?, ?)",
                [(file, digest, entry) for file, (digest, entry) in self._parsed.items()],
            )
            self._connection.executemany(
                "INSERT OR REPLACE INTO good VALUES (?, ?, ?)",
                [(tenant, good.digest, good.config) for tenant, good in self._good.items()],
            )
        self._parsed, self._good = {}, {}

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _upgrade(connection: apsw.Connection) -> None:
    """Make the tables, and throw the cache away where other models made it."""
    connection.execute(_SCHEMA)
    models = _models_digest()
    row = connection.execute("SELECT value FROM about WHERE key = 'models'").fetchone()
    if row is None or row[0] != models:
        connection.execute("DELETE FROM parsed")
        connection.execute("INSERT OR REPLACE INTO about VALUES ('models', ?)", (models,))


def _models_digest() -> str:
    """The SHA-256 of the code that reads declarations: an entry is good only for the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(declare.__file__)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
