"""Accepted commits as directories: each written whole beside the others and then put at its name by one rename.

``revisions/<sha>`` never changes once it is there, and ``current`` is a link to the one in force, swapped by a rename.
The repository is what counts: a revision that is missing or half there after a crash is written again from it.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError, StorageFull

NOTHING: Final = "none"
"""The revision that is in force before the first commit: it declares nobody."""
_EMPTY: Final[Mapping[str, bytes]] = {"_gateway.yaml": b"# Nothing was pushed or pulled yet.\nproviders: {}\n"}


class Revisions:
    """The exported revisions in ``place``, of which the newest ``keep`` stay. It blocks: run it in a thread."""

    def __init__(self, place: Path, *, keep: int = 5) -> None:
        self._place = place
        self._all = place / "revisions"
        self._keep = keep

    @property
    def current(self) -> str | None:
        """The revision that `current` leads to."""
        try:
            return (self._place / "current").readlink().name
        except OSError:
            return None

    def path(self, revision: str) -> Path:
        """Where a revision is."""
        return self._all / revision

    def nothing(self) -> Path:
        """The directory of the revision that declares nobody."""
        return self.export(NOTHING, _EMPTY)

    def export(self, revision: str, files: Mapping[str, bytes]) -> Path:
        """The directory that holds exactly ``files``, made now where it is not there as it should be."""
        target = self.path(revision)
        if _holds(target, files):
            return target
        temporary = self._all / f".{revision}.{os.getpid()}.tmp"
        try:
            self._all.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            for name, data in files.items():
                (temporary / name).write_bytes(data)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _failed(error) from error
        return target

    def swap(self, revision: str) -> None:
        """Let `current` lead to ``revision`` at once, and give back what is older than what stays."""
        temporary = self._place / f".current.{os.getpid()}.tmp"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path("revisions") / revision)
            temporary.rename(self._place / "current")
        except OSError as error:
            raise _failed(error) from error
        self._tidy(revision)

    def _tidy(self, revision: str) -> None:
        os.utime(self.path(revision))
        found = sorted((e for e in self._all.iterdir() if e.is_dir()), key=lambda e: e.stat().st_mtime_ns, reverse=True)
        for old in found[self._keep :]:
            if old.name != revision:
                shutil.rmtree(old, ignore_errors=True)


def _holds(directory: Path, files: Mapping[str, bytes]) -> bool:
    try:
        if set(os.listdir(directory)) != set(files):
            return False
        return all((directory / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False


def _failed(error: OSError) -> CarrelError:
    if error.errno in (28, 122):
        return StorageFull("The disk is full: the revision could not be written, and the one before stays in force.")
    return CarrelError(f"The revision cannot be written: {error.strerror}.")
