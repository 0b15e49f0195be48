"""One secret sealed: AES-256-GCM, with the tenant, the name and the key's version as associated data.

A sealed secret is `CV1`, the key's version in two bytes, the nonce in twelve, and the ciphertext with its tag. One that
is moved to another tenant or another name, or whose version is changed, does not open.

The cipher is imported when the first secret is sealed or opened, which the vault does in a thread: a gateway without
secrets does without its megabytes.
"""

import os
import struct
from typing import Final

from carrel.errors import CarrelError
from carrel.ids import TenantId
from carrel.vault.keys import MasterKeys

_MAGIC: Final = b"CV1"
_HEAD: Final = struct.Struct(">3sH12s")


class SealBroken(CarrelError):
    """What is stored does not open: it was changed, moved, or sealed with another master key. Nothing is lost of it."""

    code = "vault_unavailable"


def seal(keys: MasterKeys, tenant: TenantId, name: str, content: bytes) -> bytes:
    """``content`` under the newest key."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see the module's docstring

    version, nonce = keys.newest, os.urandom(12)
    sealed = AESGCM(keys.of(version)).encrypt(nonce, content, _bound(tenant, name, version))
    return _HEAD.pack(_MAGIC, version, nonce) + sealed


def open_sealed(keys: MasterKeys, tenant: TenantId, name: str, sealed: bytes) -> bytes:
    """What `seal` was given; raises SealBroken, MasterKeyUnusable."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see the module's docstring
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see the module's docstring

    if len(sealed) < _HEAD.size:
        raise SealBroken(f"The stored secret {name!r} is cut off.")
    magic, version, nonce = _HEAD.unpack_from(sealed)
    if magic != _MAGIC:
        raise SealBroken(f"The stored secret {name!r} is of no known form.")
    try:
        return AESGCM(keys.of(version)).decrypt(nonce, sealed[_HEAD.size :], _bound(tenant, name, version))
    except InvalidTag:
        raise SealBroken(
            f"The stored secret {name!r} does not open: it was changed or moved, or {keys.source} is another key than "
            "the one that it was sealed with."
        ) from None


def version_of(sealed: bytes) -> int:
    """The key's version that ``sealed`` names; 0 where it names none."""
    return int(_HEAD.unpack_from(sealed)[1]) if len(sealed) >= _HEAD.size else 0


def _bound(tenant: TenantId, name: str, version: int) -> bytes:
    """Neither a tenant's id nor a secret's name can hold a NUL."""
    return b"\0".join((b"carrel vault", tenant.encode(), name.encode(), str(version).encode()))
