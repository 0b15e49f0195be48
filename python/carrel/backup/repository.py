"""One tenant's repository in a store: its key, its list of backups, and its sealed objects.

    TENANT/repository.json   whose it is, and its key, sealed by the master key
    TENANT/head              the list of backups
    TENANT/manifests/ID      one backup each
    TENANT/pieces/ab/NAME    content, and what lists it

All of it blocks. Names of other tenants are never made here: every key begins with the tenant's id and a `/`.
"""

import base64
import contextlib
import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, Protocol, TypeVar

from pydantic import ValidationError

from carrel.backup.catalogue import Entry, Head, Manifest, RepositoryFile, WrappedKey
from carrel.backup.names import require_entry
from carrel.backup.sealing import KEY_BYTES, MOST_CONTENT, OVERHEAD, Sealer
from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.objects.protocol import (
    ObjectChanged,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    ObjectNotKept,
    ObjectStore,
    StoreRefused,
)
from carrel.vault.box import open_sealed, seal
from carrel.vault.keys import MasterKeys

M = TypeVar("M", RepositoryFile, Head, Manifest, Entry)
MOST_SEALED: Final = MOST_CONTENT + OVERHEAD
READS: Final = 3
"""How often an object is read before it is held to be damaged where it is, and not on its way."""
_MOST_FILE: Final = 64 << 10
_MOST_DAMAGED: Final = 256 << 20
_DELETED_AT_A_TIME: Final = 200


class Keys(Protocol):
    """Where master keys come from."""

    def current(self, *, to_seal: bool = False) -> MasterKeys:
        """See `carrel.vault.vault.Keys`."""
        ...


class NoRepository(NotFound):
    """There are no backups of that tenant there."""

    code = "no_backups"


class OfLaterVersion(ObjectDamaged):
    """What opens and is not as this version writes it: a later one may have."""


class Repository:
    """The backups of ``tenant`` in a store. `at` or `make` gives one."""

    def __init__(self, store: ObjectStore, tenant: TenantId, file: RepositoryFile, key: bytes) -> None:
        self.store = store
        self.tenant = tenant
        self.id = file.id
        self._sealer = Sealer(key, file.id)

    # --- which one ---

    @classmethod
    def at(cls, store: ObjectStore, tenant: TenantId, keys: Keys) -> "Repository":
        """The one that is there; raises NoRepository, ObjectDamaged, and what the vault raises without its key."""
        file, tag = _read(store, tenant)
        master = keys.current()
        key = open_sealed(master, tenant, _secret(file.id), base64.b64decode(file.key.sealed))
        if len(key) != KEY_BYTES:
            raise ObjectDamaged(f"The key of {tenant}'s backups is none.")
        if file.key.version != master.newest:
            _rewrap(store, file, tag, _wrapped(tenant, file.id, key, keys))
        return cls(store, tenant, file, key)

    @classmethod
    def make(cls, store: ObjectStore, tenant: TenantId, keys: Keys, now: datetime) -> "Repository":
        """The one that is there, or a new one. Raises StoreRefused where the store does not hold conditions."""
        store.require_conditions()
        try:
            return cls.at(store, tenant, keys)
        except NoRepository:
            _require_nothing(store, tenant)
        key = secrets.token_bytes(KEY_BYTES)
        repository_id = secrets.token_hex(16)
        file = RepositoryFile(
            tenant=tenant, id=repository_id, created=now, key=_wrapped(tenant, repository_id, key, keys)
        )  # fmt: skip
        try:
            store.put(f"{tenant}/repository.json", _shown(file), absent=True)
        except ObjectChanged:
            # Another host made one in between.
            return cls.at(store, tenant, keys)
        return cls.at(store, tenant, keys)

    # --- the list of backups ---

    def head(self) -> tuple[Head, str | None]:
        """The list as it is, with its tag; an empty one where there is none yet."""
        try:
            content, tag = self._opened("head", "head", f"{self.tenant}/head")
        except ObjectMissing:
            return Head(), None
        return _parsed(Head, content, "list of backups"), tag

    def head_tag(self) -> str | None:
        """The tag of the list as it is, whatever is in it; None where there is none."""
        try:
            return self.store.get(f"{self.tenant}/head", most=_MOST_DAMAGED)[1]
        except ObjectMissing:
            return None

    def commit(self, head: Head, tag: str | None) -> None:
        """Replace the list that has ``tag``; raises ObjectChanged where it is another one by now."""
        content = head.model_copy(update={"generation": head.generation + 1}).model_dump_json().encode()
        sealed = self._sealer.seal("head", "head", content)
        self.store.put(f"{self.tenant}/head", sealed, replaces=tag, absent=tag is None)

    # --- backups ---

    def put_manifest(self, manifest: Manifest) -> None:
        """Write one; ids are never used twice."""
        sealed = self._sealer.seal("manifest", manifest.id, manifest.model_dump_json().encode())
        self.store.put(f"{self.tenant}/manifests/{manifest.id}", sealed)

    def manifest(self, backup_id: str) -> Manifest:
        """One backup's; raises ObjectMissing, ObjectDamaged."""
        content, _ = self._opened("manifest", backup_id, f"{self.tenant}/manifests/{backup_id}")
        manifest = _parsed(Manifest, content, "manifest")
        if manifest.tenant != self.tenant or manifest.id != backup_id:
            raise ObjectDamaged("The manifest is another backup's.")
        return manifest

    def manifests(self) -> Iterator[ObjectInfo]:
        """All that are there, in the list or not."""
        return self.store.list(f"{self.tenant}/manifests/")

    def entries(self, manifest: Manifest) -> Iterator[Entry]:
        """A backup's entries in order, each judged; raises UnsafePath, ObjectDamaged."""
        last: tuple[str, ...] = ()
        for name in manifest.index:
            for line in self.piece(name).splitlines():
                entry = require_entry(_parsed(Entry, line, "entry"))
                if entry.order <= last:
                    raise ObjectDamaged(f"The backup has {entry.path[:200]!r} twice, or out of its place.")
                last = entry.order
                yield entry

    # --- pieces ---

    def name(self, content: bytes) -> str:
        """The name of a piece with that content."""
        return self._sealer.name(content)

    def pieces(self) -> Iterator[tuple[str, ObjectInfo]]:
        """The names of all pieces that are there."""
        for info in self.store.list(f"{self.tenant}/pieces/"):
            yield info.key.rpartition("/")[2], info

    def put_piece(self, name: str, content: bytes) -> int:
        """Write one; how many bytes were sent."""
        sealed = self._sealer.seal("piece", name, content)
        try:
            self.store.put(self._piece(name), sealed)
        except ObjectNotKept:
            # What cannot be read must not look as though it were there. Where this fails too, `keep_piece` finds out.
            with contextlib.suppress(CarrelError):
                self.store.delete([self._piece(name)])
            raise
        return len(sealed)

    def keep_piece(self, name: str, content: bytes) -> int:
        """The same where one of that name is there that no backup vouches for: it is read, and written if it is wrong.

        A write that a death cut short, or that a store took wrongly, is in the listing as any other.
        """
        try:
            if self.piece(name) == content:
                return 0
        except (ObjectDamaged, ObjectMissing):
            pass
        return self.put_piece(name, content)

    def piece(self, name: str) -> bytes:
        """The content of one; raises ObjectMissing, ObjectDamaged."""
        return self._opened("piece", name, self._piece(name))[0]

    def _opened(self, kind: str, name: str, key: str) -> tuple[bytes, str]:
        """The content of an object and its tag. What was damaged on its way only is read again."""
        for left in reversed(range(READS)):
            try:
                sealed, tag = self.store.get(key, most=MOST_SEALED)
                return self._sealer.open(kind, name, sealed), tag
            except ObjectDamaged:
                if not left:
                    raise
        raise AssertionError

    def remove(self, keys: Sequence[str]) -> Iterator[int]:
        """Remove objects of this repository, some at a time; gives how many each time, before they go."""
        for at in range(0, len(keys), _DELETED_AT_A_TIME):
            some = keys[at : at + _DELETED_AT_A_TIME]
            for key in some:
                if not key.startswith(f"{self.tenant}/"):
                    raise CarrelError("A key of another tenant's is not touched.")
            yield len(some)
            self.store.delete(some)

    def _piece(self, name: str) -> str:
        return f"{self.tenant}/pieces/{name[:2]}/{name}"


def _read(store: ObjectStore, tenant: TenantId) -> tuple[RepositoryFile, str]:
    try:
        data, tag = store.get(f"{tenant}/repository.json", most=_MOST_FILE)
    except ObjectMissing:
        raise NoRepository(f"There are no backups of {tenant} there.") from None
    file = _parsed(RepositoryFile, data, "repository.json")
    if file.tenant != tenant:
        raise ObjectDamaged("The repository is another tenant's: it was moved there.")
    return file, tag


def _rewrap(store: ObjectStore, file: RepositoryFile, tag: str, key: WrappedKey) -> None:
    """Keep the repository's key under the newest master key. Where that cannot be written now, it is the next time."""
    try:
        store.put(f"{file.tenant}/repository.json", _shown(file.model_copy(update={"key": key})), replaces=tag)
    except (ObjectChanged, StoreRefused):
        return


def _wrapped(tenant: TenantId, repository_id: str, key: bytes, keys: Keys) -> WrappedKey:
    master = keys.current(to_seal=True)
    sealed = seal(master, tenant, _secret(repository_id), key)
    return WrappedKey(version=master.newest, sealed=base64.b64encode(sealed).decode())


def _secret(repository_id: str) -> str:
    """What the vault calls the repository's key. No secret of a tenant's is called so: theirs begin with a letter."""
    return f"/backup/{repository_id}"


def _shown(file: RepositoryFile) -> bytes:
    return json.dumps(json.loads(file.model_dump_json()), indent=1).encode() + b"\n"


def _parsed(model: type[M], data: bytes, what: str) -> M:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise OfLaterVersion(
            f"The {what} of the backup is not as this version writes it ({where or 'not JSON'}): a later version of "
            "Carrel may have."
        ) from None  # fmt: skip


def _require_nothing(store: ObjectStore, tenant: TenantId) -> None:
    """Raise ObjectDamaged where there are backups, and their key is gone: a new one would open none of them."""
    if next(iter(store.list(f"{tenant}/manifests/")), None) is not None:
        raise ObjectDamaged(
            f"There are backups of {tenant} there, and `{tenant}/repository.json`, their key, is gone: put it back "
            "from the store's own older versions, or back up to another prefix."
        )
