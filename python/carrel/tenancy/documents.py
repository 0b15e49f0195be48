"""A small document of a tenant's, kept as one JSON file beneath its root: read whole, written whole, changed by one at
a time. What cannot be read is never overwritten.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from pydantic import BaseModel, ValidationError

from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.tenancy.handle import Tenant

MAX_BYTES: Final = 4 << 20
D = TypeVar("D", bound=BaseModel)


class DocumentUnreadable(CarrelError):
    """A document in the tenant's state is damaged; nothing in it is used or overwritten."""

    code = "document_unreadable"


class Documents(Generic[D]):
    """The document ``path`` of all tenants, of the model ``kind``, whose defaults stand for one that is not there."""

    def __init__(self, path: str, kind: type[D]) -> None:
        self._path = path
        self._kind = kind
        self._locks: WeakValueDictionary[TenantId, asyncio.Lock] = WeakValueDictionary()

    async def read(self, tenant: Tenant) -> D:
        """The document as it is; raises DocumentUnreadable."""
        return await asyncio.to_thread(self._read, tenant)

    async def change(self, tenant: Tenant, change: Callable[[D], D]) -> D:
        """Put what ``change`` makes of the document in its place; where it raises, nothing is changed."""
        async with self._locks.setdefault(tenant.id, asyncio.Lock()):
            before = await self.read(tenant)
            after = change(before)
            if after != before:
                data = after.model_dump_json(indent=1).encode()
                await asyncio.to_thread(tenant.root.replace, self._path, data)
            return after

    def _read(self, tenant: Tenant) -> D:
        try:
            return self._kind.model_validate_json(tenant.root.read(self._path, limit=MAX_BYTES))
        except NotFound:
            return self._kind()
        except (ValidationError, CarrelError) as error:
            raise DocumentUnreadable(
                f"{self._path} in the tenant's state cannot be read: mend or remove it."
            ) from error  # fmt: skip
