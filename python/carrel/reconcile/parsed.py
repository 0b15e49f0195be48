"""What the gateway read each declaration as, for whoever judges declarations beside it: looked up, and never written.

A hook judges ten thousand files of which a push changed some. What is kept of the others is the gateway's own cache; an
entry is taken only where the very same code made it of the very same bytes, so that the verdict is the validator's own.
"""

import hashlib
from pathlib import Path
from typing import Final

import apsw

from carrel import declare
from carrel.ids import TenantId

DATABASE: Final = Path("reconcile", "declared.sqlite")
"""Beneath the state directory; `record.Record` keeps it."""
_WAIT_MS: Final = 1000


class ParsedBefore:
    """A `ParseCache` that gives what is there. For one thread at a time; ``close`` it."""

    def __init__(self, connection: apsw.Connection, models: str) -> None:
        self._connection = connection
        self._models = models

    @classmethod
    def open(cls, state_dir: Path) -> "ParsedBefore | None":
        """What is kept in ``state_dir``; None where there is nothing, or other code made it."""
        path = state_dir / DATABASE
        if not path.is_file():
            return None
        models = models_digest()
        try:
            connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(_WAIT_MS)
            row = connection.execute("SELECT value FROM about WHERE key = 'models'").fetchone()
        except apsw.Error:
            return None
        if row is None or row[0] != models:
            connection.close()
            return None
        return cls(connection, models)

    def get(self, name: str, digest: str) -> str | None:
        """The entry of that file with that content."""
        return self._one("SELECT entry FROM parsed WHERE file = ? AND digest = ?", name, digest)

    def put(self, name: str, digest: str, entry: str) -> None:
        """Nothing is kept: the gateway keeps it when it takes the file in."""

    def verdict(self, tenant: TenantId, basis: str) -> str | None:
        """The effective configuration that followed from ``basis``."""
        wanted = f"{self._models}:{basis}"
        return self._one("SELECT config FROM good WHERE tenant = ? AND basis = ?", tenant, wanted)

    def _one(self, query: str, *words: str) -> str | None:
        try:
            row = self._connection.execute(query, words).fetchone()
        except apsw.Error:
            # Without it the file is read anew, which is slower and gives the same.
            return None
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def models_digest() -> str:
    """The SHA-256 of the code that reads declarations: an entry is good only for the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(declare.__file__)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
