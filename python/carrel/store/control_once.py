"""What operators changed under which idempotency key, kept a day, in a database of the gateway's own."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import apsw

from carrel.store.once import Once, answered, begun, forgotten, upgrade
from carrel.store.sqlite import Worker, open_database

T = TypeVar("T")
NAME: Final = "control-once.sqlite"


class ControlOnceStore:
    """The keys of all operators; ``who`` is an admin key's name or a uid. The database is made with the first key."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / NAME
        self._worker: Worker | None = None
        self._connection: apsw.Connection | None = None

    async def begin(self, who: str, key: str, digest: str, *, now: datetime) -> Once:
        """Note that the change ``digest`` begins under ``key``; raises KeyReused, RateLimited, StorageFull."""
        return await self._run(begun(who, key, digest, now))

    async def finish(self, who: str, key: str, answer: str) -> None:
        """Keep the answer to the change that began under ``key``."""
        await self._run(answered(who, key, answer))

    async def forget(self, who: str, key: str) -> None:
        """Forget ``key``: the change was refused, and may be tried again."""
        await self._run(forgotten(who, key))

    async def close(self) -> None:
        """Close the database."""
        if self._worker is not None:
            await self._worker.run(self._close)
            self._worker.close()
            self._worker = None

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        if self._worker is None:
            self._worker = Worker("carrel-control-once")
        return await self._worker.run(lambda: work(self._opened()))

    def _opened(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = open_database(self._path, schema=upgrade)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
