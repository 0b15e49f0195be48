"""Makes a restored tree the target's own: secrets sealed for it, tokens only where they are its tokens.

A secret is sealed for one tenant under a version of the master key. It comes back where this host has that version,
and is left out, by name, where it has not. Under another id what is of one tenant alone is left out: tokens, whose text
names it, devices, grants, connections, which people gave to that tenant, and more (see `backup.contents`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.backup.contents import paths
from carrel.backup.keyfile import Keys
from carrel.errors import NotFound
from carrel.ids import TenantId
from carrel.secrets import MAX_SECRET_BYTES
from carrel.tenancy.paths import TenantRoot
from carrel.vault.box import SealBroken, open_sealed, seal
from carrel.vault.keys import MasterKeyUnusable

_VAULT: Final = "credentials/vault"
_CONNECTIONS: Final = "credentials/connections"
_SUFFIX: Final = ".sealed"
_TOKENS: Final = "credentials/tokens.json"
_SIDES: Final = ("-wal", "-shm", "-journal")
_MOST: Final = 2 * MAX_SECRET_BYTES + 4096


@dataclass(frozen=True, slots=True)
class Adopted:
    """What did not come along. ``secrets`` by name, of connections the file's; ``tokens`` says that there were some."""

    secrets: tuple[str, ...] = ()
    tokens: bool = False


def adopt(tree: Path, source: TenantId, target: TenantId, keys: Keys) -> Adopted:
    """Make ``tree``, restored from ``source``'s backup, fit for ``target``. Blocking."""
    root = TenantRoot.open(tree)
    try:
        lost = _secrets(root, source, target, keys) + _connections(root, source, target, keys)
        return Adopted(lost, source != target and _without_what_is_its_alone(root))
    finally:
        root.close()


def _secrets(root: TenantRoot, source: TenantId, target: TenantId, keys: Keys) -> tuple[str, ...]:
    try:
        names = sorted(name for name, _ in root.entries(_VAULT) if name.endswith(_SUFFIX))
    except NotFound:
        return ()
    lost = []
    for file in names:
        name, path = file.removesuffix(_SUFFIX), f"{_VAULT}/{file}"
        try:
            content = open_sealed(keys.current(), source, name, root.read(path, limit=_MOST))
            if source != target:
                root.replace(path, seal(keys.current(to_seal=True), target, name, content))
        except (SealBroken, MasterKeyUnusable):
            root.remove(path)
            lost.append(name)
    return tuple(lost)


def _connections(root: TenantRoot, source: TenantId, target: TenantId, keys: Keys) -> tuple[str, ...]:
    try:
        files = sorted(name for name, _ in root.entries(_CONNECTIONS) if name.endswith(_SUFFIX))
    except NotFound:
        return ()
    lost = []
    for file in files:
        path = f"{_CONNECTIONS}/{file}"
        name = path.removesuffix(_SUFFIX)
        try:
            if source != target:
                raise SealBroken("It was given to another tenant.")
            open_sealed(keys.current(), source, name, root.read(path, limit=_MOST))
        except (SealBroken, MasterKeyUnusable):
            root.remove(path)
            lost.append(name)
    return tuple(lost)


def _without_what_is_its_alone(root: TenantRoot) -> bool:
    """Whether there were tokens."""
    tokens = False
    for path in (path for path in paths(other="left") if "*" not in path):
        for each in (path, *(f"{path}{side}" for side in _SIDES)):
            try:
                root.remove(each)
            except NotFound:
                continue
            tokens |= each == _TOKENS
    return tokens
