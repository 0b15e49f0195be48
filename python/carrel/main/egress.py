"""What egress takes of this machine: the key that placeholders are made with."""

import os
import secrets
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError

KEY_FILE: Final = "placeholder.key"
KEY_BYTES: Final = 32


class KeyUnusable(CarrelError):
    """The key of placeholders cannot be read or made."""

    code = "cannot_start"


def placeholder_key(state_dir: Path) -> bytes:
    """The key, made at the first start: a placeholder that a program wrote down is good after a restart. Blocking."""
    path = state_dir / KEY_FILE
    try:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            pass
        else:
            with os.fdopen(fd, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
        with path.open("rb") as file:
            key = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(f"{path} cannot be used: {error.strerror}.") from error
    if len(key) != KEY_BYTES:
        raise KeyUnusable(f"{path} is not a key of {KEY_BYTES} bytes: remove it, and another is made.")
    return key
