"""The key that signs the record's ends: a systemd credential, or a file of the state directory's that the first start
makes. Beside the record and not in it, so that a copy of the record does not hold it.
"""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from carrel.audit.files import replace_synced, sync_directory
from carrel.audit.heads import Signer, Trusted, key_id, public_pem
from carrel.errors import CarrelError

NAME: Final = "audit-signing-key"
PUBLIC: Final = "audit-signing-key.pub"
_MOST: Final = 16 << 10


class SigningKeyUnusable(CarrelError):
    """The key is none, or open to others; the message says what to do."""

    code = "signing_key_unusable"


def open_signer(state_dir: Path, credentials_dir: Path | None) -> tuple[Signer, bool]:
    """The key, and whether it was made now. Its public half is written beside it. Blocking."""
    if credentials_dir is not None and (credentials_dir / NAME).exists():
        signer, made = Signer(_read(credentials_dir / NAME, ours=False)), False
    else:
        signer, made = _own(state_dir / NAME)
    pem = public_pem(signer.public).encode()
    public = state_dir / PUBLIC
    if not public.is_file() or public.read_bytes() != pem:
        replace_synced({public: pem})
    return signer, made


def trusted_keys(files: Iterable[Path]) -> Trusted:
    """The public keys in ``files``, by their ids; raises SigningKeyUnusable. Blocking."""
    found: dict[str, Ed25519PublicKey] = {}
    for path in files:
        try:
            key = load_pem_public_key(path.read_bytes()[:_MOST])
        except OSError as error:
            raise SigningKeyUnusable(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, UnsupportedAlgorithm):
            raise SigningKeyUnusable(f"{path} is no public key in PEM.") from None
        if not isinstance(key, Ed25519PublicKey):
            raise SigningKeyUnusable(f"{path} is a public key, and not one of Ed25519.")
        found[key_id(key)] = key
    return found


def _own(path: Path) -> tuple[Signer, bool]:
    try:
        return Signer(_read(path, ours=True)), False
    except FileNotFoundError:
        pass
    key = Ed25519PrivateKey.generate()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        raise SigningKeyUnusable(f"{path} cannot be made: {error.strerror}.") from error
    return Signer(key), True


def _read(path: Path, *, ours: bool) -> Ed25519PrivateKey:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if ours else 0))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SigningKeyUnusable(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise SigningKeyUnusable(f"{path} is no file.")
        if found.st_mode & (0o077 if ours else 0o027):
            raise SigningKeyUnusable(f"{path} is open to others (mode {found.st_mode & 0o777:04o}): `chmod 600` it.")
        data = file.read(_MOST)
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
