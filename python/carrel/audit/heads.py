"""Signed ends: what says, by a key that is not in the record, how far the record went. Pure.

The text that is signed is ``carrel audit head 1``, the day (``YYYY-MM-DD``), the number of that day's last line and its
hash, each on a line of its own that ends with a newline, as ASCII. The signature is Ed25519 (RFC 8032). A key's id is
the first 16 hex digits of the SHA-256 of its 32 public bytes.

`cryptography` is loaded when the first end is signed or judged: a gateway that nobody asks anything does without it.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self

from carrel.audit.chain import Head

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Trusted = Mapping[str, "Ed25519PublicKey"]
"""Public keys by their ids."""
_NOBODY: Final = ""


@dataclass(frozen=True, slots=True)
class SignedHead:
    """The end of a day: its last line's number and hash, and who signed that."""

    day: str
    number: int
    hash: str
    key: str = _NOBODY
    signature: str = ""

    @property
    def head(self) -> Head:
        """As the chain knows it."""
        return Head(self.hash, self.number)

    def text(self) -> bytes:
        """What is signed."""
        return f"carrel audit head 1\n{self.day}\n{self.number}\n{self.hash}\n".encode()

    def line(self) -> bytes:
        """As it is kept."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes | Mapping[str, Any]) -> Self | None:
        """What `line` made, None where it is none."""
        try:
            found = data if isinstance(data, Mapping) else json.loads(data)
            return cls(
                str(found["day"]), int(found["number"]), str(found["hash"]), str(found["key"]), str(found["signature"])
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def problem(self, trusted: Trusted) -> str | None:
        """Why it says nothing, None where one of ``trusted`` signed it."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - see the module's docstring

        key = trusted.get(self.key)
        if key is None:
            return f"it is signed by the key {self.key[:16] or 'of nobody'}, which is none of those trusted here"
        try:
            key.verify(base64.b64decode(self.signature, validate=True), self.text())
        except (InvalidSignature, ValueError):
            return "its signature does not match: it was edited"
        return None


class Signer:
    """Signs with one key, which ``load`` gives at the first use."""

    def __init__(self, load: Callable[[], "Ed25519PrivateKey"]) -> None:
        self._load = load

    @cached_property
    def _key(self) -> "Ed25519PrivateKey":
        return self._load()

    @cached_property
    def public(self) -> "Ed25519PublicKey":
        """What others judge by."""
        return self._key.public_key()

    @cached_property
    def id(self) -> str:
        """How the key is called."""
        return key_id(self.public)

    def sign(self, day: str, head: Head) -> SignedHead:
        """``head`` as the end of ``day``, signed."""
        bare = SignedHead(day, head.number, head.hash, self.id)
        return SignedHead(
            day, head.number, head.hash, self.id, base64.b64encode(self._key.sign(bare.text())).decode()
        )  # fmt: skip


def key_id(key: "Ed25519PublicKey") -> str:
    """How a key is called."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def public_pem(key: "Ed25519PublicKey") -> str:
    """A public key as PEM, which openssl reads."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - as above

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
