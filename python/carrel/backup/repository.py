"""One tenant's repository in a store: its key, its list of backups, and its sealed objects.

    TENANT/repository.json   whose it is, and its key, sealed by the master key; `keyfile` has it and its copy
    TENANT/head              the list of backups
    TENANT/manifests/ID      one backup each
    TENANT/pieces/ab/NAME    content, and what lists it

All of it blocks. Names of other tenants are never made here: every key begins with the tenant's id and a `/`.
"""

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from carrel.backup import keyfile
from carrel.backup.catalogue import Entry, Head, Manifest, parsed
from carrel.backup.keyfile import READS, Found, Keys, NoRepository
from carrel.backup.names import require_entry
from carrel.backup.sealing import MOST_SEALED, Sealer
from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.objects.protocol import (
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    ObjectNotKept,
    ObjectStore,
)

_MOST_DAMAGED: Final = 256 << 20
_DELETED_AT_A_TIME: Final = 200


class Repository:
    """The backups of ``tenant`` in a store. `at` or `make` gives one."""

    def __init__(self, store: ObjectStore, tenant: TenantId, found: Found) -> None:
        self.store = store
        self.tenant = tenant
        self.id = found.opened.file.id
        self.wrong = found.wrong
        """What is wrong with one copy of its key, empty where nothing is."""
        self._sealer = Sealer(found.opened.key, self.id)

    # --- which one ---

    @classmethod
    def at(cls, store: ObjectStore, tenant: TenantId, keys: Keys) -> "Repository":
        """The one that is there, to look at; raises NoRepository, ObjectDamaged, and what the vault raises."""
        return cls(store, tenant, keyfile.find(store, tenant, keys))

    @classmethod
    def make(cls, store: ObjectStore, tenant: TenantId, keys: Keys, now: datetime) -> "Repository":
        """The one that is there, or a new one, with both copies of its key as they should be.

        Raises StoreRefused where the store does not hold conditions.
        """
        store.require_conditions()
        try:
            found = keyfile.find(store, tenant, keys)
        except NoRepository:
            keyfile.make(store, tenant, keys, now)
            found = keyfile.find(store, tenant, keys)
        keyfile.keep(store, tenant, found, keys)
        return cls(store, tenant, found)

    # --- the list of backups ---

    def head(self) -> tuple[Head, str | None]:
        """The list as it is, with its tag; an empty one where there is none yet."""
        try:
            content, tag = self._opened("head", "head", f"{self.tenant}/head")
        except ObjectMissing:
            return Head(), None
        return parsed(Head, content, "list of backups"), tag

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
        manifest = parsed(Manifest, content, "manifest")
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
                entry = require_entry(parsed(Entry, line, "entry"))
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
