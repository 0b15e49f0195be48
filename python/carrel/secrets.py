"""The redacted secret type and the lookup of secrets by name.

A secret is named in YAML and never written there. It is looked up in ``$CREDENTIALS_DIRECTORY`` (systemd's
``LoadCredential``), then in the secrets directory, then in ``CARREL_SECRET_<NAME>``.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError

SECRET_NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$"  # noqa: S105 - a pattern
MAX_SECRET_BYTES: Final = 64 * 1024
MASTER_KEY: Final = "carrel-master-key"
"""The file that the vault's own key is in. No declaration gets it by naming it."""
SIGNING_KEY: Final = "audit-signing-key"
"""That of the key which signs the audit log; nor this one."""
_NAME = re.compile(SECRET_NAME_PATTERN[1:-1])


class SecretMissing(CarrelError):
    """No secret of that name is at hand; the message names the places that were looked in."""

    code = "secret_missing"


class Secret:
    """A value that shows itself as ``***`` everywhere but in ``reveal``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. Call it at the place of use and keep no copy."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not serialised")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class SecretStore:
    """Secrets by name, read at each call, so that a rotated file is seen without a restart."""

    def __init__(self, *, credentials_dir: Path | None, secrets_dir: Path | None, environ: Mapping[str, str]) -> None:
        self._dirs = [d for d in (credentials_dir, secrets_dir) if d is not None]
        self._environ = {k: v for k, v in environ.items() if k.startswith("CARREL_SECRET_")}

    @classmethod
    def from_environment(cls, *, secrets_dir: Path | None = None) -> "SecretStore":
        """The store of this process: ``$CREDENTIALS_DIRECTORY``, ``secrets_dir``, ``CARREL_SECRET_*``."""
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        return cls(
            credentials_dir=Path(credentials) if credentials else None,
            secrets_dir=secrets_dir,
            environ=os.environ,
        )

    def get(self, name: str) -> Secret:
        """The secret called ``name``; raises SecretMissing, which says where it was looked for."""
        if not _NAME.fullmatch(name):
            raise SecretMissing(f"{name[:64]!r} is not a secret's name.")
        if name in (MASTER_KEY, SIGNING_KEY):
            whose = "vault's" if name == MASTER_KEY else "audit log's"
            raise SecretMissing(f"{name!r} is the {whose} own key, which goes nowhere: call the secret something else.")
        for directory in self._dirs:
            try:
                with (directory / name).open("rb") as file:
                    data = file.read(MAX_SECRET_BYTES + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise SecretMissing(f"secret {name!r} cannot be read: {error.strerror}.") from error
            if len(data) > MAX_SECRET_BYTES:
                raise SecretMissing(f"secret {name!r} is over {MAX_SECRET_BYTES} bytes.")
            return Secret(data.decode("utf-8", "strict").rstrip("\r\n"))
        value = self._environ.get(environment_name(name))
        if value is None:
            raise SecretMissing(
                f"secret {name!r} is not set: put it in a file of that name in the secrets directory "
                f"(--secrets-dir or systemd's LoadCredential), or in {environment_name(name)}."
            )
        return Secret(value)


_CREDENTIAL = re.compile(r"((?:tk|ak)_[a-z0-9][a-z0-9_-]{0,63}_)[0-9a-f]{32}(?![0-9a-f])")


_IN_URL = re.compile(
    r"(://[^\s/@:]{0,128}:)(?![0-9]{1,5}(?:[/?#]|$))[^\s@]{1,512}@|(https?://)[^\s/@:]{1,512}@", re.IGNORECASE
)
"""What stands before the host of a URL: a password, which may be unescaped, and over HTTP a name alone, too."""


def masked(text: str) -> str:
    """``text`` with every tenant token and admin key in it cut to its prefix: a second line of defence for logs.

    Nor does it show what a URL logs in with, as who writes `s3://KEY:SECRET@bucket` would have it.
    """
    if "k_" in text:
        text = _CREDENTIAL.sub(r"\1***", text)
    return _IN_URL.sub(r"\1\2***@", text) if "@" in text and "://" in text else text


def environment_name(name: str) -> str:
    """The environment variable that may hold the secret ``name``."""
    return "CARREL_SECRET_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
