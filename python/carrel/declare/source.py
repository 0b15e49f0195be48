"""Where declarations are read from: a directory, or bytes by name that are in no directory (a commit, a draft).

Both are judged by the same loader, so that what `carrel check` says of a directory a hook says of a push.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from carrel.declare import directory
from carrel.declare.directory import MAX_OPERATOR_BYTES, MAX_TENANT_BYTES, OPERATOR_FILES, Content, Refused, Signature

_PLAIN: Final = stat.S_IFREG


class Source(Protocol):
    """Declarations by name. It blocks: read it in a thread."""

    def scan(self) -> Mapping[str, Signature]:
        """The declarations' names and signatures; raises DirectoryUnreadable."""
        ...

    def read(self, name: str) -> Content:
        """The bytes of one; raises Refused, FileNotFoundError."""
        ...

    def signature(self, name: str) -> Signature:
        """Its signature, also where it is refused; raises FileNotFoundError."""
        ...


class OnDisk:
    """A directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def scan(self) -> Mapping[str, Signature]:
        return directory.scan(self.path)

    def read(self, name: str) -> Content:
        return directory.read(self.path, name)

    def signature(self, name: str) -> Signature:
        return directory.signature_of(os.lstat(self.path / name))


class InMemory:
    """Bytes by name, as they are and as they stay."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {name: data for name, data in files.items() if directory.counts(name)}

    def scan(self) -> Mapping[str, Signature]:
        return {name: self.signature(name) for name in self._files}

    def read(self, name: str) -> Content:
        data = self._data(name)
        limit = MAX_OPERATOR_BYTES if name in OPERATOR_FILES else MAX_TENANT_BYTES
        if len(data) > limit:
            raise Refused(f"over {limit // 1024} KiB")
        return Content(data, hashlib.sha256(data).hexdigest(), self.signature(name))

    def signature(self, name: str) -> Signature:
        return 0, 0, len(self._data(name)), 0, _PLAIN

    def _data(self, name: str) -> bytes:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(name) from None
