"""Where connections are: sealed files of a vault of their own, one each.

What reads and writes blocks: call it in a thread. What changes one connection does it under its lock.
"""

import asyncio
import hashlib
from typing import Final, Protocol
from weakref import WeakValueDictionary

from pydantic import ValidationError

from carrel.connections.record import Connection
from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.secrets import Secret
from carrel.tenancy.handle import Tenant

PLACE: Final = "credentials/connections"


class Sealed(Protocol):
    """A vault."""

    def get(self, tenant: Tenant, name: str, /) -> Secret: ...
    def set(self, tenant: Tenant, name: str, value: str, /) -> object: ...
    def remove(self, tenant: Tenant, name: str, /) -> None: ...
    def names(self, tenant: Tenant, /) -> list[str]: ...


class Shelf:
    """All tenants' connections."""

    def __init__(self, vault: Sealed) -> None:
        self._vault = vault
        self._locks: WeakValueDictionary[tuple[TenantId, str | None, str], asyncio.Lock] = WeakValueDictionary()

    def lock(self, tenant: Tenant, one: Connection) -> asyncio.Lock:
        """Held by whoever changes that connection."""
        return self._locks.setdefault((tenant.id, one.member, one.name), asyncio.Lock())

    def get(self, tenant: Tenant, member: str | None, name: str) -> Connection | None:
        """The connection of that member's, or of the whole tenant's; raises what the vault does."""
        try:
            return _read(self._vault.get(tenant, _file(member, name)))
        except NotFound:
            return None

    def put(self, tenant: Tenant, connection: Connection) -> None:
        """Keep it: it is on the disk when this returns. Raises StorageFull."""
        self._vault.set(tenant, _file(connection.member, connection.name), connection.model_dump_json())

    def remove(self, tenant: Tenant, member: str | None, name: str) -> None:
        """Forget it; raises NotFound."""
        self._vault.remove(tenant, _file(member, name))

    def all(self, tenant: Tenant) -> list[Connection]:
        """All of a tenant's, its members' too, by name. One that does not open is not among them."""
        found = []
        for file in self._vault.names(tenant):
            try:
                found.append(_read(self._vault.get(tenant, file)))
            except NotFound:
                continue
        return sorted(found, key=lambda one: (one.name, one.member or ""))


def _file(member: str | None, name: str) -> str:
    """No name of a member or a connection is in a file's name: they may be as long as theirs are."""
    return "c" + hashlib.sha256(f"{member or ''}\0{name}".encode()).hexdigest()[:40]


def _read(value: Secret) -> Connection:
    try:
        return Connection.model_validate_json(value.reveal())
    except ValidationError:
        raise CarrelError("A connection in the tenant's state cannot be read: remove it and link it again.") from None
