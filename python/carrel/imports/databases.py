"""The SQLite generation of OpenClaw's state: sessions, jobs and credentials in databases, read from a copy.

A database that somebody hands over is not trusted: it is copied with its log, opened for reading alone, its schema
runs nothing, and how long a question may take is bounded.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from carrel.errors import CarrelError, InvalidRequest
from carrel.imports.source import Source
from carrel.imports.values import loads

MOST_BYTES: Final = 8 << 30
MOST_SECONDS: Final = 600.0


class Database:
    """One open copy."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def has(self, table: str) -> bool:
        """Whether there is such a table."""
        question = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return self._connection.execute(question, (table,)).fetchone() is not None

    def tables(self) -> list[str]:
        """The names of all tables, but for SQLite's own."""
        question = (
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"
        )
        return [str(name) for (name,) in self.rows(question)]

    def count(self, table: str) -> int:
        """How many rows a table has; 0 for one that cannot be read without what made it (a virtual one)."""
        quoted = '"' + table.replace('"', '""') + '"'
        try:
            [(count,)] = self.rows(f"SELECT count(*) FROM {quoted}")  # noqa: S608 - a name, quoted
        except InvalidRequest:
            return 0
        return int(count)

    def rows(self, question: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """What a question gives; raises InvalidRequest where the database is damaged or is another one."""
        try:
            yield from self._connection.execute(question, values)
        except apsw.Error as error:
            raise InvalidRequest(f"the database cannot be read: {str(error)[:200]}") from None


@contextmanager
def opened(source: Source, path: str) -> Iterator[Database]:
    """A copy of the database at ``path``, for reading."""
    with tempfile.TemporaryDirectory(prefix="carrel-import-") as place:
        copy = Path(place) / "copy.sqlite"
        for suffix in ("", "-wal"):
            if suffix and source.look(path + suffix) is None:
                continue
            with copy.with_name(copy.name + suffix).open("wb") as file:
                for block in source.blocks(path + suffix, limit=MOST_BYTES):
                    file.write(block)
        try:
            connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
        except apsw.Error as error:
            raise InvalidRequest(f"the database cannot be read: {str(error)[:200]}") from None
        try:
            connection.pragma("trusted_schema", False)
            connection.pragma("cell_size_check", True)
            connection.pragma("query_only", True)
            end = time.monotonic() + MOST_SECONDS
            connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            yield Database(connection)
        except apsw.Error as error:
            raise InvalidRequest(f"the database cannot be read: {str(error)[:200]}") from None
        finally:
            connection.close()


def document(text: Any) -> Mapping[str, Any]:
    """A JSON object in a cell; an empty one where it is none."""
    try:
        found = loads(text)
    except (ValueError, TypeError, AttributeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def optional(source: Source, path: str) -> bool:
    """Whether there is such a file."""
    try:
        found = source.look(path)
    except CarrelError:
        return False
    return found is not None and found.kind == "file"
