"""Who wrote an archive: a seal by the master key of the gateway that did, over its header and its manifest.

The manifest has the hash of everything else, so nothing can be changed under a seal. Whoever may only carry or keep the
file cannot make one. Pure.
"""

import hashlib
import hmac
from typing import Annotated, Final, Literal

from pydantic import Field

from carrel.backup.catalogue import Stored
from carrel.errors import UnsafePath
from carrel.vault.keys import MasterKeys

SEAL: Final = "carrel-seal.json"
Vouched = Literal["own", "other", "none"]
"""By a master key that this gateway has, by one that it has not, or by nobody."""


class Seal(Stored):
    """``key`` is the master key's version, ``mark`` what tells that key from others, ``mac`` HMAC-SHA256 in hex."""

    format: Literal[1] = 1
    key: Annotated[int, Field(ge=1, le=0xFFFF)]
    mark: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    mac: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def seal_of(keys: MasterKeys, header: bytes, manifest: bytes) -> Seal:
    """The seal of an archive whose header and manifest have these digests (SHA-256), by the newest key."""
    version = keys.newest
    return Seal(key=version, mark=keys.marks[version], mac=_mac(keys.of(version), header, manifest))


def vouched(keys: MasterKeys | None, seal: Seal | None, header: bytes, manifest: bytes) -> Vouched:
    """Whose seal it is, by the archive's digests; raises UnsafePath for one of ours that is not this archive's."""
    if seal is None:
        return "none"
    if keys is None or keys.marks.get(seal.key) != seal.mark:
        return "other"
    if not hmac.compare_digest(_mac(keys.of(seal.key), header, manifest), seal.mac):
        raise UnsafePath("The archive's seal is not its own: it was changed since a gateway wrote it.")
    return "own"


def _mac(master: bytes, header: bytes, manifest: bytes) -> str:
    key = hmac.digest(master, b"carrel archive: seal", hashlib.sha256)
    return hmac.digest(key, b"carrel archive 1\0" + header + manifest, hashlib.sha256).hex()
