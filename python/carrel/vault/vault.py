"""A tenant's secrets: small sealed files beneath its root, which only the gateway opens.

A vault is one directory of them. What people keep under names of their own is in one, what rooms of the gateway keep
is in others, and a file that is moved from one into another does not open.
"""

import json
import re
import threading
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from carrel.clock import Clock
from carrel.errors import CarrelError, InvalidRequest, NotFound, TooLarge
from carrel.secrets import MAX_SECRET_BYTES, SECRET_NAME_PATTERN, Secret
from carrel.tenancy.handle import Tenant
from carrel.vault.box import SealBroken, open_sealed, seal, version_of
from carrel.vault.keys import MasterKeys, MasterKeyUnusable

PLACE: Final = "credentials/vault"
SUFFIX: Final = ".sealed"
MOST: Final = 500
_LEFTOVER: Final = ".carrel-"
_LOCKS: Final = 64
_NAME: Final = re.compile(SECRET_NAME_PATTERN[1:-1])
_MOST_SEALED: Final = 2 * MAX_SECRET_BYTES + 4096


@dataclass(frozen=True, slots=True)
class SecretInfo:
    """What may be told of a secret: never anything of its value. ``version`` counts its values."""

    name: str
    version: int
    key_version: int
    created: datetime
    updated: datetime


class Keys(Protocol):
    """Where the vault has its keys from."""

    def current(self, *, to_seal: bool = False) -> MasterKeys:
        """The keys as they are now, before anything is sealed with them too; raises MasterKeyUnusable."""
        ...


class Vault:
    """All tenants' secrets. Every method blocks: call it in a thread. Changes of one tenant wait for each other."""

    def __init__(self, *, keys: Keys, clock: Clock, place: str = PLACE) -> None:
        self._keys = keys
        self._clock = clock
        self._place = place
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def get(self, tenant: Tenant, name: str) -> Secret:
        """The secret; raises NotFound, SealBroken, MasterKeyUnusable."""
        return Secret(self._opened(tenant, name)[0])

    def info(self, tenant: Tenant, name: str) -> SecretInfo:
        """What may be told of one; raises as `get`."""
        return self._opened(tenant, name)[1]

    def set(self, tenant: Tenant, name: str, value: str, *, must_exist: bool = False) -> SecretInfo:
        """Keep a new value; on the disk when this returns. Raises InvalidRequest, TooLarge, NotFound, StorageFull."""
        _judge(name, value)
        with self._lock(tenant):
            try:
                before: SecretInfo | None = self.info(tenant, name)
            except NotFound:
                if must_exist:
                    raise
                before = None
                if len(self.names(tenant)) >= MOST:
                    raise TooLarge(f"A tenant keeps {MOST} secrets at most.") from None
            keys, now = self._keys.current(to_seal=True), self._clock.now()
            created, version = (before.created, before.version + 1) if before is not None else (now, 1)
            info = SecretInfo(name, version, keys.newest, created, now)
            self._write(tenant, keys, info, value)
        return info

    def remove(self, tenant: Tenant, name: str) -> None:
        """Forget a secret, also one that does not open; raises NotFound."""
        _judge_name(name)
        with self._lock(tenant):
            try:
                tenant.root.remove(self._path(name))
            except NotFound:
                raise NotFound(f"There is no secret {name!r}.") from None

    def reseal(self, tenant: Tenant) -> int:
        """Seal what is under an older key with the newest one; how many that were. Values stay readable throughout.

        One that does not open is left as it is, and raised when the others are done.
        """
        count, failure = 0, None
        for name in self.names(tenant):
            with self._lock(tenant):
                try:
                    count += self._resealed(tenant, name)
                except NotFound:
                    continue
                except (SealBroken, MasterKeyUnusable) as error:
                    failure = failure or error
        if failure is not None:
            raise failure
        return count

    def _resealed(self, tenant: Tenant, name: str) -> bool:
        value, info = self._opened(tenant, name)
        if info.key_version == self._keys.current().newest:
            return False
        self._write(tenant, self._keys.current(to_seal=True), info, value)
        return True

    def _path(self, name: str) -> str:
        return f"{self._place}/{name}{SUFFIX}"

    def _bound(self, name: str) -> str:
        """What a value is sealed to: no name that people give has a slash in it."""
        return name if self._place == PLACE else f"{self._place}/{name}"

    def _lock(self, tenant: Tenant) -> threading.Lock:
        return self._locks[zlib.crc32(tenant.id.encode()) % _LOCKS]

    def names(self, tenant: Tenant) -> list[str]:
        """The names of a tenant's secrets; nothing is opened."""
        try:
            found = [entry[0] for entry in tenant.root.entries(self._place)]
        except NotFound:
            return []
        return sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX) and name[0] != ".")

    def _opened(self, tenant: Tenant, name: str) -> tuple[str, SecretInfo]:
        _judge_name(name)
        try:
            sealed = tenant.root.read(self._path(name), limit=_MOST_SEALED)
        except NotFound:
            raise NotFound(f"There is no secret {name!r}.") from None
        document = json.loads(open_sealed(self._keys.current(), tenant.id, self._bound(name), sealed))
        info = SecretInfo(
            name, document["version"], version_of(sealed), datetime.fromisoformat(document["created"]),
            datetime.fromisoformat(document["updated"]),
        )  # fmt: skip
        return document["value"], info

    def _write(self, tenant: Tenant, keys: MasterKeys, info: SecretInfo, value: str) -> None:
        document = {
            "value": value, "version": info.version, "created": info.created.isoformat(),
            "updated": info.updated.isoformat(),
        }  # fmt: skip
        sealed = seal(keys, tenant.id, self._bound(info.name), json.dumps(document).encode())
        self._sweep(tenant)
        tenant.root.replace(self._path(info.name), sealed)

    def _sweep(self, tenant: Tenant) -> None:
        """Take away what a write left that did not come to its end: under the tenant's lock there is no other."""
        try:
            left = [name for name, _ in tenant.root.entries(self._place) if name.startswith(_LEFTOVER)]
        except NotFound:
            return
        for name in left:
            try:
                tenant.root.remove(f"{self._place}/{name}")
            except CarrelError:
                continue

    def list(self, tenant: Tenant) -> list[SecretInfo]:
        """All of a tenant's, by name."""
        found = []
        for name in self.names(tenant):
            try:
                found.append(self.info(tenant, name))
            except NotFound:
                continue
        return found


def _judge_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            "A secret's name is 1 to 64 letters, digits and `_.-`, and begins with a letter.", param="name"
        )


def _judge(name: str, value: str) -> None:
    _judge_name(name)
    if not value:
        raise InvalidRequest("A secret is not empty.", param="value")
    if len(value.encode("utf-8", "surrogatepass")) > MAX_SECRET_BYTES:
        raise TooLarge(f"A secret is {MAX_SECRET_BYTES} bytes at most.", param="value")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidRequest("A secret is text without NUL.", param="value")
