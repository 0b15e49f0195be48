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
_PARSED: Final = "SELECT file, digest, entry FROM parsed"
_GOOD: Final = "SELECT tenant, basis, config FROM good"


class ParsedBefore:
    """A `ParseCache` that gives what was there when it was opened."""

    def __init__(self, parsed: dict[str, tuple[str, str]], good: dict[str, tuple[str, str]], models: str) -> None:
        self._parsed = parsed
        self._good = good
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
            try:
                connection.set_busy_timeout(_WAIT_MS)
                row = connection.execute("SELECT value FROM about WHERE key = 'models'").fetchone()
                if row is None or row[0] != models:
                    return None
                # All at once: ten thousand questions take six times as long.
                parsed = {name: (digest, entry) for name, digest, entry in connection.execute(_PARSED)}
                good = {tenant: (basis, config) for tenant, basis, config in connection.execute(_GOOD)}
            finally:
                connection.close()
        except apsw.Error:
            # Without it all is read anew, which is slower and gives the same.
            return None
        return cls(parsed, good, models)

    def get(self, name: str, digest: str) -> str | None:
        """The entry of that file with that content."""
        kept = self._parsed.get(name)
        return kept[1] if kept is not None and kept[0] == digest else None

    def put(self, name: str, digest: str, entry: str) -> None:
        """Nothing is kept: the gateway keeps it when it takes the file in."""

    def verdict(self, tenant: TenantId, basis: str) -> str | None:
        """The effective configuration that followed from ``basis``."""
        kept = self._good.get(tenant)
        return kept[1] if kept is not None and kept[0] == f"{self._models}:{basis}" else None


def models_digest() -> str:
    """The SHA-256 of the code that reads declarations: an entry is good only for the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(declare.__file__)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
