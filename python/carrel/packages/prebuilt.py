"""Environments of packages that the machine has built beforehand. No Nix is run, and none need be there."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from carrel.packages.closures import Closures, Made
from carrel.packages.index import IndexedPackage, PackageIndex, read
from carrel.packages.protocol import About, BuildFailed, PackageError
from carrel.packages.refusals import unknown
from carrel.tenancy.userland import Userland

_FORMAT: Final = 1
"""Changes where what an older version kept must not be used any more."""


class IndexSource:
    """The packages of the index ``file``. ``root`` is where its store is: its paths are beneath it.

    An environment is a farm of the closures' paths and a profile of links to their programs, both in ``state_dir``.
    """

    def __init__(self, file: Path, *, state_dir: Path, root: str = "", copies: bool = True) -> None:
        self._file = file
        self._envs = state_dir / "envs"
        self._root = root.rstrip("/")
        self._closures = Closures(self._envs, lambda path: Path(f"{self._root}{path}"), copies=copies)
        self._read: tuple[tuple[int, ...], PackageIndex] | None = None

    async def available(self) -> str | None:
        """See ``PackageSource.available``."""
        try:
            await asyncio.to_thread(self._index)
        except PackageError as error:
            return error.message.rstrip(".")
        return None

    async def identity(self) -> str:
        """See ``PackageSource.identity``."""
        return await asyncio.to_thread(self._identity)

    async def catalogue(self) -> Mapping[str, About]:
        """See ``PackageSource.catalogue``."""
        index = await asyncio.to_thread(self._index)
        return {name: About(one.version, one.description) for name, one in index.packages.items()}

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """See ``PackageSource.found``."""
        return await asyncio.to_thread(self._found, packages)

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """See ``PackageSource.build``."""
        lines: list[str] = []
        try:
            return await asyncio.to_thread(self._build, tuple(sorted(packages)), lines.append)
        finally:
            for line in lines:
                log(line)

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """See ``PackageSource.prune``."""
        return await asyncio.to_thread(self._closures.prune, keys, before)

    async def collect(self) -> None:
        """See ``PackageSource.collect``. The store is the machine's."""

    def _identity(self) -> str:
        try:
            digest = hashlib.sha256(self._file.read_bytes()).hexdigest()
        except OSError as error:
            digest = error.strerror or "unreadable"
        return f"index {self._file} {self._root} {digest}"

    def _index(self) -> PackageIndex:
        try:
            status = self._file.stat()
        except OSError:
            return read(self._file)
        # A switch replaces the file by another one.
        stamp = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, read(self._file)
        return self._read[1]

    def _found(self, packages: frozenset[str]) -> Userland | None:
        try:
            return self._closures.found(self._key(self._chosen(tuple(sorted(packages)))))
        except PackageError:
            return None

    def _build(self, names: tuple[str, ...], log: Callable[[str], None]) -> Userland:
        chosen = self._chosen(names)
        closure = sorted({path for package in chosen.values() for path in package.closure})
        missing = set(self._closures.missing(closure))
        for name, package in chosen.items():
            lost = [path for path in package.closure if path in missing]
            log(f"{name} {package.version}: {len(package.closure)} store paths, {len(lost)} of them missing")
            if lost:
                raise BuildFailed(
                    f"The package {name} is in the index, and {lost[0]} is not in the store: it was collected, or the "
                    "index is another generation's. Switch again, or name this generation's index in packages.path."
                )
        if not any(os.path.lexists(f"{self._root}{package.path}/bin/bash") for package in chosen.values()):
            raise PackageError("The package index has no bash in its base set, and nothing runs without one.")
        variables = {key: value for package in chosen.values() for key, value in package.environment.items()}
        self._envs.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Made(tuple(closure), variables, packages=tuple(package.path for package in chosen.values()))
        return self._closures.keep(self._key(chosen), names, made)

    def _chosen(self, names: tuple[str, ...]) -> dict[str, IndexedPackage]:
        """The named packages before the base set: their files are the ones that count. Raises PackageError."""
        index = self._index()
        for name in names:
            if name not in index.packages:
                raise unknown("the package index", name, index.packages)
        return {name: index.packages[name] for name in dict.fromkeys((*names, *index.base))}

    def _key(self, chosen: dict[str, IndexedPackage]) -> str:
        """A name for the content: other packages in the index may change without it."""
        told = [_FORMAT, "index", self._root, [(name, one.model_dump(mode="json")) for name, one in chosen.items()]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:20]
