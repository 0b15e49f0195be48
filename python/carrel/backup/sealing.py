"""One object of a backup, compressed and sealed. docs/explanation/backup.md has the format.

A sealed object is `CB1`, the compression (0 none, 1 zstd), the length of the content in four bytes, a nonce of twelve,
and AES-256-GCM's ciphertext with its tag. Associated data are the head, the repository, the kind and the name, so that
no object opens in another's place. Names of pieces are an HMAC of their content under a key of the repository's own:
equal content has one name in one repository, and says nothing across two.
"""

import hashlib
import hmac
import os
import struct
from functools import cached_property
from typing import Any, Final

from carrel.objects.protocol import ObjectDamaged

MAGIC: Final = b"CB1"
KEY_BYTES: Final = 32
MOST_CONTENT: Final = 16 << 20
OVERHEAD: Final = 64
MOST_SEALED: Final = MOST_CONTENT + OVERHEAD
_HEAD: Final = struct.Struct(">3sBI12s")
_RAW: Final = 0
_ZSTD: Final = 1
_LEVEL: Final = 3
_WORTH: Final = 64
"""Content below this many bytes is not compressed."""


class Sealer:
    """Seals and opens a repository's objects under its ``key`` of 32 random bytes. Threads may use it at a time."""

    def __init__(self, key: bytes, repository: str) -> None:
        self._encrypt = hmac.digest(key, b"carrel backup: encryption", hashlib.sha256)
        self._names = hmac.digest(key, b"carrel backup: names", hashlib.sha256)
        self._repository = repository

    @cached_property
    def _cipher(self) -> Any:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - heavy, and not all back up

        return AESGCM(self._encrypt)

    def name(self, content: bytes) -> str:
        """The name of a piece: 64 hex digits."""
        return hmac.digest(self._names, content, hashlib.sha256).hex()

    def seal(self, kind: str, name: str, content: bytes) -> bytes:
        """``content`` compressed where that helps, and sealed."""
        how, packed = _packed(content)
        head = _HEAD.pack(MAGIC, how, len(content), os.urandom(12))
        sealed: bytes = self._cipher.encrypt(head[-12:], packed, self._bound(head, kind, name))
        return head + sealed

    def open(self, kind: str, name: str, sealed: bytes) -> bytes:
        """What `seal` was given; raises ObjectDamaged."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - comes with the cipher

        if len(sealed) < _HEAD.size:
            raise ObjectDamaged(f"The {kind} {name} is cut off.")
        head = sealed[: _HEAD.size]
        magic, how, length, nonce = _HEAD.unpack(head)
        if magic != MAGIC or how not in (_RAW, _ZSTD) or length > MOST_CONTENT:
            raise ObjectDamaged(f"The {kind} {name} is of no known form.")
        try:
            packed = self._cipher.decrypt(nonce, sealed[_HEAD.size :], self._bound(head, kind, name))
        except InvalidTag:
            raise ObjectDamaged(
                f"The {kind} {name} does not open: it was changed, or is another one."
            ) from None  # fmt: skip
        content = _unpacked(how, packed, length)
        if len(content) != length:
            raise ObjectDamaged(f"The {kind} {name} is not as long as it says.")
        return content

    def _bound(self, head: bytes, kind: str, name: str) -> bytes:
        return b"\0".join((b"carrel backup", head, self._repository.encode(), kind.encode(), name.encode()))


def _packed(content: bytes) -> tuple[int, bytes]:
    if len(content) < _WORTH:
        return _RAW, content
    import zstandard  # noqa: PLC0415 - as the cipher

    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(content)
    return (_ZSTD, packed) if len(packed) < len(content) else (_RAW, content)


def _unpacked(how: int, packed: bytes, length: int) -> bytes:
    if how == _RAW:
        return packed
    import zstandard  # noqa: PLC0415 - as the cipher

    try:
        # The length is given by us, and held: what says that it is larger than that is not taken in.
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=length)
    except zstandard.ZstdError as error:
        raise ObjectDamaged("A piece of the backup does not unpack.") from error
