"""Who may push: the public keys of the restricted account, one name each, as sshd reads them.

A line holds ``restrict`` and a forced command, so that a key gives git on this one repository and nothing else: no
shell, no terminal, no forwarding, no file transfer.
"""

import base64
import binascii
import hashlib
import os
import re
import shlex
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError, Conflict, InvalidRequest, NotFound

NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_KINDS: Final = frozenset({
    "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa",
    "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
})  # fmt: skip
_MAX_BYTES: Final = 16 * 1024
_RSA_BITS: Final = 2048
_LINE: Final = re.compile(r'restrict,command="(?:[^"\\]|\\.)*" (\S+) (\S+) (\S+)')


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one name."""

    name: str
    kind: str
    body: str

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        digest = hashlib.sha256(base64.b64decode(self.body)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def parse_key(text: str, name: str) -> Key:
    """The public key in ``text`` as ``name``'s; raises InvalidRequest that says what is wrong with it."""
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"{name[:80]!r} is no name for a key: lower-case letters, digits, `-` and `_`.")
    if "PRIVATE KEY" in text:
        raise InvalidRequest("This is a private key, which stays where it is: give the file that ends in .pub.")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) != 1:
        raise InvalidRequest(f"One public key is wanted, on one line; there are {len(lines)}.")
    words = lines[0].split()
    if len(words) < 2 or words[0] not in _KINDS:
        kinds = ", ".join(sorted(_KINDS))
        raise InvalidRequest(f"The line must begin with the key's type ({kinds}); options are not taken.")
    try:
        blob = base64.b64decode(words[1], validate=True)
        parts = _parts(blob)
    except (binascii.Error, struct.error, ValueError):
        raise InvalidRequest("The key is damaged: it was cut, or a character of it is wrong.") from None
    if not parts or parts[0] != words[0].encode():
        raise InvalidRequest("The key is damaged: it says to be of another type than its line does.")
    if words[0] == "ssh-rsa" and (len(parts) < 3 or int.from_bytes(parts[2]).bit_length() < _RSA_BITS):
        raise InvalidRequest(f"An RSA key of under {_RSA_BITS} bits is not taken: make one with ssh-keygen -t ed25519.")
    return Key(name, words[0], base64.b64encode(blob).decode())


def _parts(blob: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(blob):
        (length,) = struct.unpack_from(">I", blob, at)
        if at + 4 + length > len(blob):
            raise ValueError("cut short")
        found.append(blob[at + 4 : at + 4 + length])
        at += 4 + length
    return found


class Keys:
    """The file ``path``, which sshd reads. ``program`` and ``state`` are what the forced command is made of."""

    def __init__(self, path: Path, *, program: str, state: Path) -> None:
        self.path = path
        self._program = program
        self._state = state

    def list(self) -> tuple[Key, ...]:
        """All keys, by name."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as error:
            raise CarrelError(f"{self.path} cannot be read: {error}.") from error
        found = (_LINE.fullmatch(line) for line in text.splitlines())
        return tuple(sorted((Key(m[3], m[1], m[2]) for m in found if m is not None), key=lambda k: (k.name, k.body)))

    def authorize(self, key: Key) -> None:
        """Let ``key`` in; raises Conflict where another name has it."""
        keys = self.list()
        owner = next((k.name for k in keys if k.body == key.body), None)
        if owner not in (None, key.name):
            raise Conflict(f"This key is {owner}'s already: what it pushes would be said to be by {key.name}.")
        if owner is None:
            self._write([*keys, key])

    def revoke(self, name: str, fingerprint: str | None = None) -> int:
        """Take away the keys of ``name``, or the one of them; how many those were. Raises NotFound."""
        keys = self.list()
        gone = [k for k in keys if k.name == name and fingerprint in (None, k.fingerprint)]
        if not gone:
            raise NotFound(f"No such key of {name[:80]!r}: `carrel git keys` lists them.")
        self._write([k for k in keys if k not in gone])
        return len(gone)

    def renew(self) -> None:
        """Write the lines again, for a program that is somewhere else now."""
        keys = self.list()
        if keys:
            self._write(keys)

    def line(self, key: Key) -> str:
        """The line of one key."""
        words = shlex.join([self._program, "git", "serve", key.name, "--state-dir", str(self._state)])
        quoted = words.replace("\\", "\\\\").replace('"', '\\"')
        return f'restrict,command="{quoted}" {key.kind} {key.body} {key.name}'

    def _write(self, keys: Iterable[Key]) -> None:
        text = "".join(f"{self.line(key)}\n" for key in sorted(keys, key=lambda k: (k.name, k.body)))
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise CarrelError(f"{self.path} cannot be written: {error.strerror}.") from error


def read_key_file(path: Path) -> str:
    """The text of a file that should hold a public key; raises CarrelError."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise CarrelError(f"The key file {path} cannot be read: {error.strerror}.") from error
