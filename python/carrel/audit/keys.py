"""The key that signs the record's ends: a systemd credential, a file among the operator's secrets, or one of the state
directory's that the first start makes. Beside the record and not in it, so that a copy of the record does not hold it.

A key in the form that openssl writes is known without `cryptography`, which is loaded when it first signs.
"""

import base64
import binascii
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carrel.audit.heads import Signer, Trusted, key_id, public_pem
from carrel.durability import replace_synced
from carrel.errors import CarrelError
from carrel.secrets import SIGNING_KEY

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NAME: Final = SIGNING_KEY
PUBLIC: Final = "audit-signing-key.pub"
_MOST: Final = 16 << 10
_PKCS8: Final = bytes.fromhex("302e020100300506032b657004220420")
"""What comes before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410, section 7)."""


class SigningKeyUnusable(CarrelError):
    """The key is none, or open to others; the message says what to do."""

    code = "signing_key_unusable"


def open_signer(state_dir: Path, *given: Path | None) -> tuple[Signer, bool]:
    """The key, and whether it was made now; raises SigningKeyUnusable. Blocking.

    It is looked for in the directories that are ``given``, in their order, before the state directory.
    """
    for place in given:
        if place is not None:
            with suppress(FileNotFoundError, NotADirectoryError):
                return _signer(place / NAME, ours=False), False
    try:
        return _signer(state_dir / NAME, ours=True), False
    except FileNotFoundError:
        return _made(state_dir / NAME), True


def publish(state_dir: Path, signer: Signer) -> None:
    """The public half, in the state directory for whoever judges the record. Blocking."""
    pem = public_pem(signer.public).encode()
    public = state_dir / PUBLIC
    if not public.is_file() or public.read_bytes() != pem:
        replace_synced({public: pem})


def trusted_keys(files: Iterable[Path]) -> Trusted:
    """The public keys in ``files``, by their ids; raises SigningKeyUnusable. Blocking."""
    return {key_id(key): key for key in map(_public, files)}


def _public(path: Path) -> "Ed25519PublicKey":
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see the module's docstring
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        key = load_pem_public_key(path.read_bytes()[:_MOST])
    except OSError as error:
        raise SigningKeyUnusable(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, UnsupportedAlgorithm):
        raise SigningKeyUnusable(f"{path} is no public key in PEM.") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningKeyUnusable(f"{path} is a public key, and not one of Ed25519.")
    return key


def _made(path: Path) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    try:
        # Whole or not at all: half a key would keep every later start from making one.
        replace_synced({path: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())})
    except OSError as error:
        raise SigningKeyUnusable(f"{path} cannot be made: {error.strerror}.") from error
    return Signer(lambda: key)


def _signer(path: Path, *, ours: bool) -> Signer:
    """Raises FileNotFoundError, SigningKeyUnusable."""
    data = _read(path, ours=ours)
    seed = _seed(data)
    if seed is not None:
        return Signer(partial(_of_seed, seed))
    key = _parsed(path, data)
    return Signer(lambda: key)


def _read(path: Path, *, ours: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if ours else 0))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise SigningKeyUnusable(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SigningKeyUnusable(f"{path} is no file.")
        if found.st_mode & (0o077 if ours else 0o027):
            raise SigningKeyUnusable(f"{path} is open to others (mode {found.st_mode & 0o777:04o}): `chmod 600` it.")
        return file.read(_MOST)


def _seed(data: bytes) -> bytes | None:
    """The 32 bytes of a key in the plainest form, None for any other, which is not to say that it is none."""
    lines = data.split()
    if len(lines) != 7 or lines[:3] + lines[4:] != b"-----BEGIN PRIVATE KEY----- -----END PRIVATE KEY-----".split():
        return None
    try:
        der = base64.b64decode(lines[3], validate=True)
    except binascii.Error:
        return None
    return der[len(_PKCS8) :] if len(der) == len(_PKCS8) + 32 and der.startswith(_PKCS8) else None


def _of_seed(seed: bytes) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    return Ed25519PrivateKey.from_private_bytes(seed)


def _parsed(path: Path, data: bytes) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SigningKeyUnusable(
            f"{path} is no private key in PEM: `openssl genpkey -algorithm ed25519` makes one. Where the old one is "
            "lost, remove the file: a new one is made, and what the old one signed is told as signed by another."
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SigningKeyUnusable(f"{path} is a private key, and not one of Ed25519.")
    return key
