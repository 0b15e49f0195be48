"""A database for each tenant, beneath the tenant's own root, opened when it is used and closed when it is not.

One thread does all the work on the databases of one kind. A tenant that was removed and declared anew has another
root, and so another database.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

import apsw

from carrel.errors import CarrelError
from carrel.store.sqlite import Worker, open_database
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

T = TypeVar("T")
OPEN: Final = 32


class TenantDatabases:
    """The databases ``directory``/``name`` of all tenants; ``schema`` brings one up to date as it is opened."""

    def __init__(
        self, *, directory: str, name: str, schema: Callable[[apsw.Connection], None], limit: int = OPEN
    ) -> None:
        self._directory = directory
        self._name = name
        self._schema = schema
        self._limit = limit
        self._worker: Worker | None = None
        self._open: OrderedDict[str, tuple[TenantRoot, apsw.Connection]] = OrderedDict()

    async def run(self, tenant: Tenant, work: Callable[[apsw.Connection], T]) -> T:
        """``work`` on the tenant's database, in a thread; what began is finished also where the caller is cancelled."""
        if self._worker is None:
            self._worker = Worker(f"carrel-{self._name}")
        return await self._worker.run(lambda: work(self._get(tenant)))

    async def close(self) -> None:
        """Close all of them."""
        if self._worker is not None:
            await self._worker.run(self._close_all)
            self._worker.close()
            self._worker = None

    def _get(self, tenant: Tenant) -> apsw.Connection:
        known = self._open.get(tenant.id)
        if known is not None and known[0] is tenant.root:
            self._open.move_to_end(tenant.id)
            return known[1]
        if known is not None:
            self._open.pop(tenant.id)[1].close()
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1][1].close()
        directory = tenant.root.directory(self._directory, create=True)
        try:
            _judge(directory, self._name)
            connection = open_database(f"/proc/self/fd/{directory.fd}/{self._name}", schema=self._schema)
        finally:
            directory.close()
        self._open[tenant.id] = tenant.root, connection
        return connection

    def _close_all(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()


def _judge(directory: TenantRoot, name: str) -> None:
    # Not by opening it: closing a descriptor of a database drops every lock that the process has on it.
    for each in (name, f"{name}-wal", f"{name}-shm"):
        try:
            found = os.stat(each, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != directory.owner:
            raise CarrelError("A tenant's database is not a plain file of the gateway's own; it is not opened.")
