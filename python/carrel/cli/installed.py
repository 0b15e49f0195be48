"""Files that a command puts into a person's own directories: whole or not at all, and never through a link."""

import os
import tempfile
from pathlib import Path

from carrel.errors import CarrelError


class CannotInstall(CarrelError):
    """A file cannot be put where it belongs."""

    code = "cannot_install"


def install(path: Path, text: str) -> Path:
    """Write ``text`` to ``path``, with the directories on the way; raises CannotInstall."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(made).chmod(0o644)
        Path(made).replace(path)
    except OSError as error:
        raise CannotInstall(f"{path} cannot be written: {error.strerror or error}.") from error
    return path
