"""A tenant as one file, to be carried elsewhere: gzip of a tar, with what it is at its begin and its hashes at its end.

``carrel-export.json`` comes first, then ``tenant/…`` in the order of paths, then ``carrel-manifest.jsonl``, a JSON
document for each name, and at last the seal of the gateway that wrote it. Links of workspaces are in the manifest
alone: the tar itself has files and directories.
"""

import gzip
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

from pydantic import Field

from carrel.backup.archive_seal import SEAL, seal_of
from carrel.backup.catalogue import Count, Stored
from carrel.ids import TENANT_ID_PATTERN
from carrel.vault.keys import MasterKeys

if TYPE_CHECKING:
    import tarfile

HEADER: Final = "carrel-export.json"
MANIFEST: Final = "carrel-manifest.jsonl"
BELOW: Final = "tenant/"
_IN_MEMORY: Final = 4 << 20
_DIRECTORY: Final = b"5"
"""The type of a directory in a tar (POSIX.1-2008, ustar)."""


class Header(Stored):
    """What an archive is. ``digest`` is the source's own, by which a second import of the same knows that it is."""

    format: Literal[1] = 1
    tenant: Annotated[str, Field(pattern=TENANT_ID_PATTERN)]
    at: datetime
    carrel: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=100)] = "carrel"
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Listed(Stored):
    """One name of the manifest."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    kind: Literal["file", "directory", "link", "left_out"]
    mode: Annotated[int, Field(ge=0, le=0o777)] = 0o600
    size: Count = 0
    sha256: str = ""
    target: Annotated[str, Field(max_length=4096)] = ""
    why: Annotated[str, Field(max_length=4096)] = ""


class Out(Protocol):
    """Where an archive is written to."""

    def write(self, data: Any, /) -> object:
        """Take some more of it."""
        ...

    def flush(self) -> object:
        """Let all that was taken go on."""
        ...


class _Gate:
    """Lets what is written through until it is shut."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self.shut = False

    def write(self, data: Any, /) -> int:
        """Write it, or drop it."""
        if not self.shut:
            self._out.write(data)
        return len(data)

    def flush(self) -> None:
        """See `Out`."""
        if not self.shut:
            self._out.flush()


class _Counted:
    """A file that is read, and how many bytes of it were."""

    def __init__(self, file: IO[bytes], counts: Callable[[int], None]) -> None:
        self._file, self._counts = file, counts

    def read(self, count: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._file.read(count)
        self._counts(len(data))
        return data


class Writer:
    """Writes an archive to ``out``. Names come in order, a directory before what is in it; `close` ends it.

    With ``keys`` it is sealed. ``counts`` is told how many bytes of files more are packed. Whoever does not come to
    `close` calls `abandon`.
    """

    def __init__(
        self, out: Out, header: Header, *, temporary: Path | None = None, keys: MasterKeys | None = None,
        counts: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        import tarfile  # noqa: PLC0415 - a gateway that writes no archive does without it

        self._gate = _Gate(out)
        self._counts = counts
        self._temporary = temporary
        self._keys = keys
        self._zip = gzip.GzipFile(fileobj=self._gate, mode="wb", compresslevel=3, mtime=0)
        self._tar = tarfile.open(fileobj=self._zip, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see close
        self._told = hashlib.sha256()
        self._manifest = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - see close
            max_size=_IN_MEMORY, dir=str(temporary) if temporary else None
        )
        self.files = 0
        self.bytes = 0
        self._header = header.model_dump_json(exclude_none=True).encode()
        self._plain(HEADER, self._header)

    def directory(self, path: str, *, mode: int = 0o700, mtime: int = 0) -> None:
        """Add a directory. ``mtime`` is in seconds."""
        info = _info(BELOW + path, 0, mode, mtime)
        info.type = _DIRECTORY
        self._tar.addfile(info)
        self._list(Listed(path=path, kind="directory", mode=mode))

    def link(self, path: str, target: str) -> None:
        """Name a link."""
        self._list(Listed(path=path, kind="link", mode=0o777, target=target))

    def file(
        self, path: str, content: Callable[[Callable[[], None]], Iterable[bytes]], *, mode: int = 0o600, mtime: int = 0
    ) -> None:
        """Add a file. ``content`` is given what to call where it begins anew, and gives its blocks."""
        with tempfile.SpooledTemporaryFile(
            max_size=_IN_MEMORY, dir=str(self._temporary) if self._temporary else None
        ) as spool:
            digest = hashlib.sha256()

            def restart() -> None:
                nonlocal digest
                digest = hashlib.sha256()
                spool.seek(0)
                spool.truncate()

            for block in content(restart):
                digest.update(block)
                spool.write(block)
            size = spool.tell()
            spool.seek(0)
            self._tar.addfile(_info(BELOW + path, size, mode, mtime), _Counted(spool, self._counts))
        self.files += 1
        self.bytes += size
        self._list(Listed(path=path, kind="file", mode=mode, size=size, sha256=digest.hexdigest()))

    def data(self, path: str, data: bytes, *, mode: int = 0o600, mtime: int = 0) -> None:
        """Add a small file."""
        self.file(path, lambda _: (data,), mode=mode, mtime=mtime)

    def left_out(self, path: str, why: str) -> None:
        """Name what is not in the archive, and why."""
        self._list(Listed(path=path[:4096], kind="left_out", why=why[:4096]))

    def close(self) -> None:
        """End the archive."""
        size = self._manifest.tell()
        self._manifest.seek(0)
        self._tar.addfile(_info(MANIFEST, size, 0o600, 0), self._manifest)
        self._manifest.close()
        if self._keys is not None:
            seal = seal_of(self._keys, hashlib.sha256(self._header).digest(), self._told.digest())
            self._plain(SEAL, seal.model_dump_json().encode() + b"\n")
        self._tar.close()
        self._zip.close()

    def abandon(self) -> None:
        """Give back what it holds; what was written so far is no archive."""
        self._gate.shut = True
        self._manifest.close()
        self._tar.close()
        self._zip.close()

    def _list(self, one: Listed) -> None:
        line = one.model_dump_json(exclude_defaults=True).encode() + b"\n"
        self._told.update(line)
        self._manifest.write(line)

    def _plain(self, name: str, data: bytes) -> None:
        self._tar.addfile(_info(name, len(data), 0o600, 0), io.BytesIO(data))


def _info(name: str, size: int, mode: int, mtime: int) -> "tarfile.TarInfo":
    import tarfile  # noqa: PLC0415 - loaded by now

    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, max(0, mtime)
    return info
