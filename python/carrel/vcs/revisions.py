"""Accepted commits as directories: each written whole beside the others and then put at its name by one rename.

``revisions/<sha>`` never changes once it is there, and ``current`` is a link to the one in force, swapped by a rename.
The repository is what counts: a revision that is missing or half there after a crash is written again from it.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import CarrelError, StorageFull

NOTHING: Final = "none"
"""The revision that is in force before the first commit: it declares nobody."""
_NO_LINKS: Final = (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that has no hard links, or no more of them."""
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
        return self.export(NOTHING, _EMPTY).path

    def export(self, revision: str, files: Mapping[str, bytes], *, like: "Exported | None" = None) -> "Exported":
        """The directory that holds exactly ``files``, made now where it is not there as it should be.

        With ``like`` it holds besides what that has and ``files`` do not name; those are linked, not written: nobody
        changes an exported file, and one that somebody changed all the same is no part of `Exported.intact`.
        """
        target = self.path(revision)
        kept = like.kept if like is not None else {}
        linked = {name: kept[name] for name in kept if name not in files}
        if like is not None and like.path == target and not files and set(os.listdir(target)) == set(linked):
            return Exported(target, linked)
        if like is None and _holds(target, files):
            return Exported(target, _kept(target, files))
        temporary = self._all / f".{revision}.{os.getpid()}.tmp"
        try:
            self._all.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            for name, data in files.items():
                (temporary / name).write_bytes(data)
            for name in linked:
                _link(f"{like.path if like is not None else target}/{name}", f"{temporary}/{name}")
            made = _kept(temporary, files)
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _failed(error) from error
        return Exported(target, {**linked, **made})

    def swap(self, revision: str) -> None:
        """Let `current` lead to ``revision`` at once."""
        temporary = self._place / f".current.{os.getpid()}.tmp"
        try:
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(Path("revisions") / revision)
            temporary.rename(self._place / "current")
        except OSError as error:
            raise _failed(error) from error

    def tidy(self, revision: str) -> None:
        """Give back what is older than what stays; ``revision`` is in force."""
        with contextlib.suppress(OSError):
            os.utime(self.path(revision))
            found = sorted(
                (e for e in self._all.iterdir() if e.is_dir()), key=lambda e: e.stat().st_mtime_ns, reverse=True
            )
            for old in found[self._keep :]:
                if old.name != revision:
                    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """One exported file: the SHA-256 of its bytes, and what shows that nobody touched them since."""

    digest: str
    modified: int
    size: int
    inode: int


@dataclass(frozen=True, slots=True)
class Exported:
    """A revision's directory, with what is in it."""

    path: Path
    kept: Mapping[str, Kept]

    @property
    def digests(self) -> Mapping[str, str]:
        """The SHA-256 of each file."""
        return {name: kept.digest for name, kept in self.kept.items()}

    def intact(self, names: Iterable[str]) -> "Exported":
        """The same with those of ``names`` alone that are as they were written. It blocks."""
        return Exported(self.path, {n: k for n in names if (k := self.kept.get(n)) and _untouched(self.path, n, k)})


def _untouched(directory: Path, name: str, kept: Kept) -> bool:
    try:
        found = os.lstat(f"{directory}/{name}")
    except OSError:
        return False
    return (found.st_mtime_ns, found.st_size, found.st_ino) == (kept.modified, kept.size, kept.inode)


def _kept(directory: Path, files: Mapping[str, bytes]) -> dict[str, Kept]:
    found = {}
    for name, data in files.items():
        stat = os.lstat(f"{directory}/{name}")
        found[name] = Kept(hashlib.sha256(data).hexdigest(), stat.st_mtime_ns, stat.st_size, stat.st_ino)
    return found


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(source, target)


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
