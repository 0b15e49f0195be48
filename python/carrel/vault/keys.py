"""The master keys, by version: the newest encrypts, every one of them decrypts.

A key file has a key on each line, as `VERSION BASE64` (32 bytes each); a single line without a version is version 1.
What follows a `#` is not read. Where the file is, and whether it is still the one that secrets were sealed with, is
for `carrel.vault.ring`.
"""

import base64
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from carrel.errors import CarrelError

KEY_BYTES: Final = 32
MOST_BYTES: Final = 16 << 10


class MasterKeyUnusable(CarrelError):
    """The master key is missing, is another one, is none, or is open to others; the message says what to do."""

    code = "vault_unavailable"


class MasterKeys:
    """All versions of the key. ``source`` is the file's path."""

    def __init__(self, keys: Mapping[int, bytes], *, source: str) -> None:
        if not keys:
            raise MasterKeyUnusable(f"{source} has no key in it.")
        self._keys = dict(keys)
        self.source = source

    @property
    def newest(self) -> int:
        """The version to encrypt with."""
        return max(self._keys)

    @property
    def marks(self) -> Mapping[int, str]:
        """Of each version, what tells it from another key and says nothing of it."""
        return {
            version: hmac.digest(key, b"carrel master key %d" % version, hashlib.sha256)[:8].hex()
            for version, key in self._keys.items()
        }

    def of(self, version: int) -> bytes:
        """The key of a version; raises MasterKeyUnusable where it is not there any more."""
        try:
            return self._keys[version]
        except KeyError:
            raise MasterKeyUnusable(
                f"A secret is encrypted with version {version} of the master key, which {self.source} does not have: "
                "put it back, beside the newer one."
            ) from None

    def current(self, *, to_seal: bool = False) -> Self:
        """See `vault.Keys`: these are the keys, whatever is done with them."""
        return self

    def __repr__(self) -> str:
        return f"MasterKeys({sorted(self._keys)})"


def read(path: Path, *, ours: bool, gateway: int | None = None) -> MasterKeys | None:
    """The keys in ``path``, None where there is no such file; raises MasterKeyUnusable. Blocking.

    ``ours``: the gateway made it, so that it is a file of its own that nobody else may read. Another may be a link,
    belong to root or to whoever keeps its directory, and be read by a group; never by everyone. ``gateway`` is the
    gateway's uid, by default this process's.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_NOFOLLOW if ours else 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MasterKeyUnusable(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(fd, "rb") as file:
        _judge(path, os.fstat(file.fileno()), ours=ours, gateway=os.geteuid() if gateway is None else gateway)
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise MasterKeyUnusable(f"{path} is no key file: it is over {MOST_BYTES} bytes.")
    return MasterKeys(_parsed(data, path), source=str(path))


def make(path: Path) -> None:
    """Put a new key there, whole or not at all; one that is there already stays. Raises MasterKeyUnusable."""
    text = f"1 {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n".encode()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            # A link and not a rename: of two that make one at a time, the first's stays.
            os.link(temporary, path)
        except FileExistsError:
            return
        finally:
            temporary.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise MasterKeyUnusable(f"{path} cannot be made: {error.strerror}.") from error


def _judge(path: Path, found: os.stat_result, *, ours: bool, gateway: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise MasterKeyUnusable(f"{path} is no file.")
    if found.st_mode & (0o077 if ours else 0o027):
        raise MasterKeyUnusable(f"{path} is open to others (mode {found.st_mode & 0o777:04o}): `chmod 600` it.")
    owners = {gateway} if ours else {gateway, 0, path.parent.stat().st_uid}
    if found.st_uid not in owners:
        raise MasterKeyUnusable(f"{path} belongs to uid {found.st_uid}, which could put another key there.")


def _parsed(data: bytes, path: Path) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    lines = [line.partition("#")[0].split() for line in data.decode("utf-8", "replace").splitlines()]
    single = sum(map(bool, lines)) == 1
    for number, words in enumerate(lines, 1):
        if not words:
            continue
        version, text = ("1", words[0]) if len(words) == 1 and single else (words[0], words[-1])
        try:
            key = base64.b64decode(text, validate=True)
            if len(words) > 2 or not version.isdecimal() or not 1 <= int(version) <= 0xFFFF or len(key) != KEY_BYTES:
                raise ValueError
            if int(version) in keys:
                raise ValueError
        except ValueError:
            raise MasterKeyUnusable(
                f"{path}, line {number}: wanted `VERSION BASE64` of {KEY_BYTES} bytes (`openssl rand -base64 32`), "
                "each version once."
            ) from None
        keys[int(version)] = key
    return keys
