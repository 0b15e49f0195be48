"""The key of a tenant's repository, which is in its store twice: `repository.json`, and the same bytes beside it.

Nothing of a repository opens without its key, so that one lost object must not be the loss of all. The first counts;
the copy is taken where the first is missing or does not open. Only a backup writes, one of the two at a time and on
condition that it is as it was read, so that at any moment one of them is whole. Blocking.
"""

import base64
import contextlib
import itertools
import json
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

import structlog
from pydantic_core import from_json

from carrel.backup.catalogue import OfLaterVersion, RepositoryFile, WrappedKey, parsed
from carrel.backup.sealing import KEY_BYTES, MOST_SEALED, Sealer
from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.objects.protocol import ObjectChanged, ObjectDamaged, ObjectMissing, ObjectStore, StoreRefused
from carrel.vault.box import SealBroken, open_sealed, seal, version_of
from carrel.vault.keys import MasterKeys, MasterKeyUnusable

_log = structlog.get_logger(__name__)
FIRST: Final = "repository.json"
COPY: Final = "repository.copy.json"
READS: Final = 3
"""How often an object is read before it is held to be damaged where it is, and not on its way."""
_MOST: Final = 64 << 10
_MOST_WRONG: Final = 256 << 20
_TRIED: Final = 3


class Keys(Protocol):
    """Where master keys come from."""

    def current(self, *, to_seal: bool = False) -> MasterKeys:
        """See `carrel.vault.vault.Keys`."""
        ...


class NoRepository(NotFound):
    """There are no backups of that tenant there."""

    code = "no_backups"


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file that opens holds."""

    file: RepositoryFile
    key: bytes


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One of the two as it is in the store: it opens, or there is an ``error``; neither, where it is missing."""

    name: str
    data: bytes = b""
    tag: str | None = None
    opened: Opened | None = None
    error: CarrelError | None = None

    @property
    def stays(self) -> bool:
        """Whether it does not open and is not damaged either: it is for another version, or another master key."""
        return isinstance(self.error, OfLaterVersion | MasterKeyUnusable)


@dataclass(frozen=True, slots=True)
class Found:
    """A repository's key, and both files. ``wrong`` says what is wrong with one of them, empty where nothing is."""

    taken: KeyFile
    opened: Opened
    first: KeyFile
    copy: KeyFile
    wrong: str


def find(store: ObjectStore, tenant: TenantId, keys: Keys) -> Found:
    """The key that is there, nothing written; raises NoRepository, ObjectDamaged, and what the vault raises."""
    first, copy = _read(store, tenant, FIRST, keys), _read(store, tenant, COPY, keys)
    if first.error is not None and first.stays:
        raise first.error
    if first.opened is not None:
        if _are_two(first, copy):
            return _of_two(store, tenant, first, copy)
        told = ""
        if copy.error is not None:
            told = f"{_named(tenant, copy)} does not open ({copy.error.message}): "
            told += "it stays as it is." if copy.stays else "the next backup mends it."
        return Found(first, first.opened, first, copy, told)
    if copy.opened is not None:
        why = first.error.message if first.error is not None else "it is gone"
        told = f"{_named(tenant, first)} does not open ({why}), and its copy does: the next backup mends it."
        return Found(copy, copy.opened, first, copy, told)
    for one in (first, copy):
        if one.error is not None:
            raise one.error
    _require_nothing(store, tenant)
    raise NoRepository(f"There are no backups of {tenant} there.")


def make(store: ObjectStore, tenant: TenantId, keys: Keys, now: datetime) -> None:
    """Write a new key, unless another host did in between."""
    key, repository_id = secrets.token_bytes(KEY_BYTES), secrets.token_hex(16)
    file = RepositoryFile(tenant=tenant, id=repository_id, created=now, key=_wrapped(tenant, repository_id, key, keys))
    try:
        store.put(f"{tenant}/{FIRST}", _shown(file), absent=True)
    except ObjectChanged:
        return


def keep(store: ObjectStore, tenant: TenantId, found: Found, keys: Keys) -> None:
    """Make both as they should be: alike, and sealed by the newest master key.

    What another host writes meanwhile, or what cannot be written now, is so the next time.
    """
    if found.wrong:
        _log.error("a copy of the key of a tenant's backups is wrong", tenant=tenant, reason=found.wrong)
    if _are_two(found.first, found.copy):
        # Each may be the only key to something: whoever put it there takes one away.
        return
    file, data = found.opened.file, found.taken.data
    if file.key.version != keys.current().newest:
        data = _shown(file.model_copy(update={"key": _wrapped(tenant, file.id, found.opened.key, keys)}))
    for one in (found.first, found.copy):
        if one.data == data or one.stays:
            continue
        try:
            tag = one.tag if one.tag is not None or one.error is None else _tag_of(store, f"{tenant}/{one.name}")
            store.put(f"{tenant}/{one.name}", data, replaces=tag, absent=tag is None)
        except (ObjectChanged, StoreRefused):
            return
        if _read(store, tenant, one.name, keys).opened is None:
            # The other one opens, and is not touched before this one does.
            return


def _are_two(first: KeyFile, copy: KeyFile) -> bool:
    """Whether both open, and are of two repositories."""
    return None not in (first.opened, copy.opened) and _id(first) != _id(copy)


def _id(one: KeyFile) -> str:
    return one.opened.file.id if one.opened is not None else ""


def _of_two(store: ObjectStore, tenant: TenantId, first: KeyFile, copy: KeyFile) -> Found:
    """The one is taken that opens what is there."""
    opened = [(one, one.opened) for one in (first, copy) if one.opened is not None]
    taken = next(((one, what) for one, what in opened if _opens_something(store, tenant, what)), opened[0])
    other = _named(tenant, copy if taken[0] is first else first)
    told = f"{other} is the key of other backups than {_named(tenant, taken[0])}, and stays: remove it by hand."
    return Found(*taken, first, copy, told)


def _opens_something(store: ObjectStore, tenant: TenantId, what: Opened) -> bool:
    sealer = Sealer(what.key, what.file.id)

    def opens(kind: str, key: str) -> bool:
        try:
            sealer.open(kind, key.rpartition("/")[2], store.get(key, most=MOST_SEALED)[0])
        except (ObjectDamaged, ObjectMissing):
            return False
        return True

    some = itertools.islice(store.list(f"{tenant}/manifests/"), _TRIED)
    return opens("head", f"{tenant}/head") or any(opens("manifest", info.key) for info in some)


def _read(store: ObjectStore, tenant: TenantId, name: str, keys: Keys) -> KeyFile:
    found = KeyFile(name)
    for _ in range(READS):
        try:
            data, tag = store.get(f"{tenant}/{name}", most=_MOST)
        except ObjectMissing:
            return KeyFile(name)
        except ObjectDamaged as error:
            found = KeyFile(name, error=error)
            continue
        try:
            return KeyFile(name, data, tag, _opened(tenant, name, data, keys.current()))
        except (ObjectDamaged, SealBroken, MasterKeyUnusable) as error:
            found = KeyFile(name, data, tag, error=error)
    return found


def _tag_of(store: ObjectStore, key: str) -> str | None:
    """The tag of what is larger than any of ours."""
    with contextlib.suppress(ObjectMissing):
        return store.get(key, most=_MOST_WRONG)[1]
    return None


def _opened(tenant: TenantId, name: str, data: bytes, master: MasterKeys) -> Opened:
    """What is in a file; raises ObjectDamaged, OfLaterVersion, SealBroken, MasterKeyUnusable."""
    try:
        file = parsed(RepositoryFile, data, name)
    except OfLaterVersion:
        if _is_later(data):
            raise
        raise ObjectDamaged(f"`{tenant}/{name}` is no key of backups.") from None
    if file.tenant != tenant:
        raise ObjectDamaged("The repository is another tenant's: it was moved there.")
    try:
        sealed = base64.b64decode(file.key.sealed, validate=True)
    except ValueError:
        raise ObjectDamaged(f"`{tenant}/{name}` is no key of backups: what is sealed in it is no base64.") from None
    if version_of(sealed) != file.key.version:
        raise ObjectDamaged(f"`{tenant}/{name}` names two versions of the master key: it was changed.")
    try:
        key = open_sealed(master, tenant, _secret(file.id), sealed)
    except SealBroken:
        raise SealBroken(
            f"`{tenant}/{name}`, the key of {tenant}'s backups, does not open: it was changed or moved, or "
            f"{master.source} is another master key than the one that it was sealed with."
        ) from None
    except MasterKeyUnusable:
        raise MasterKeyUnusable(
            f"`{tenant}/{name}`, the key of {tenant}'s backups, is sealed by version {file.key.version} of the master "
            f"key, which {master.source} does not have: put it back there, beside the others."
        ) from None
    if len(key) != KEY_BYTES:
        raise ObjectDamaged(f"The key of {tenant}'s backups is none.")
    return Opened(file, key)


def _is_later(data: bytes) -> bool:
    """Whether it has all that this version writes and more, or says that it is of another format."""
    try:
        found = from_json(data)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    number = found.get("format")
    return (isinstance(number, int) and number > 1) or RepositoryFile.model_fields.keys() < found.keys()


def _wrapped(tenant: TenantId, repository_id: str, key: bytes, keys: Keys) -> WrappedKey:
    master = keys.current(to_seal=True)
    sealed = seal(master, tenant, _secret(repository_id), key)
    return WrappedKey(version=master.newest, sealed=base64.b64encode(sealed).decode())


def _secret(repository_id: str) -> str:
    """What the vault calls the repository's key. No secret of a tenant's is called so: theirs begin with a letter."""
    return f"/backup/{repository_id}"


def _shown(file: RepositoryFile) -> bytes:
    return json.dumps(json.loads(file.model_dump_json()), indent=1).encode() + b"\n"


def _named(tenant: TenantId, one: KeyFile) -> str:
    return f"`{tenant}/{one.name}`"


def _require_nothing(store: ObjectStore, tenant: TenantId) -> None:
    """Raise ObjectDamaged where there are backups, and their key is gone: a new one would open none of them."""
    if next(iter(store.list(f"{tenant}/manifests/")), None) is not None:
        raise ObjectDamaged(
            f"There are backups of {tenant} there, and their key, `{tenant}/{FIRST}`, is gone, and its copy "
            f"`{tenant}/{COPY}` too: put one of them back from the store's own older versions, or back up to another "
            "prefix."
        )
