"""What an evaluation may read, laid into the store before it: a directory is known there by the hash of its content.

Nix's pure mode reads nothing but what is given with its hash. A directory is added once for each state of it, is held
by a root beside the environments, and is found again by sizes and times without being read.
"""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from carrel.packages import refusals
from carrel.packages.closures import STORE, STORE_PATH
from carrel.packages.nix_program import DAEMON, Lines, NixProgram
from carrel.packages.protocol import BuildFailed

_LETTERS: Final = "0123456789abcdfghijklmnpqrsvwxyz"
_FOLDED: Final = 20


class Input(BaseModel):
    """A directory as an evaluation is given it: what its content is called in the store, and the content's hash.

    ``stamp`` tells whether the directory is still what it was when that was found out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    path: str
    stamp: str
    name: str
    sha256: str

    @property
    def stored(self) -> str:
        """The store path that this content has under this name."""
        return fixed(self.name, self.sha256)


class Inputs:
    """The inputs that are held in the store of ``nix``, with their records and roots in ``folder``."""

    def __init__(self, nix: NixProgram, folder: Path, store: str) -> None:
        self._nix = nix
        self._folder = folder
        self._store = store
        self._lock = asyncio.Lock()

    async def given(self, paths: Sequence[Path], lines: Lines) -> list[Input]:
        """The inputs that ``paths`` are now, each in the store; raises PackageError."""
        async with self._lock:
            return [await self._given(path, lines) for path in paths]

    async def _given(self, path: Path, lines: Lines) -> Input:
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:_FOLDED]
        record, root = self._folder / f"{name}.json", self._folder / name
        try:
            stamp = await asyncio.to_thread(_stamp, path)
        except OSError as error:
            raise BuildFailed(f"What packages are made of cannot be read: {error.strerror}.") from error
        known = await asyncio.to_thread(self._known, record, root, stamp)
        if known is not None:
            return known
        # What the store has already under its own name need not be there twice.
        stored = str(path)
        asked = await self._asked(["--query", "--hash", stored], lines) if self._is_there(stored) else ""
        name = stored.rpartition("/")[2].partition("-")[2]
        if not asked or fixed(name, asked) != stored:
            stored = await self._asked(["--add-fixed", "--recursive", "sha256", stored], lines)
            asked = await self._asked(["--query", "--hash", stored], lines)
            name = stored.rpartition("/")[2].partition("-")[2]
        made = Input(path=str(path), stamp=stamp, name=name, sha256=asked)
        if made.stored != stored:
            raise BuildFailed("What packages are made of cannot be laid into the store: Nix calls it something else.")
        await self._asked(["--realise", stored, "--add-root", str(root)], lines)
        await asyncio.to_thread(record.write_text, made.model_dump_json())
        return made

    def _is_there(self, path: str) -> bool:
        return self._store == DAEMON and STORE_PATH.fullmatch(path) is not None

    def _known(self, record: Path, root: Path, stamp: str) -> Input | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            known = Input.model_validate_json(record.read_bytes())
            held = str(root.readlink())
        except (OSError, ValidationError):
            return None
        physical = held if self._store == DAEMON else self._store + held
        whole = known.stamp == stamp and known.stored == held and Path(physical).exists()
        return known if whole else None

    async def _asked(self, words: Sequence[str], lines: Lines) -> str:
        done = await self._nix.build(["nix-store", *words], lines)
        if done.returncode != 0:
            raise refusals.not_built(tuple(lines.kept))
        return done.stdout.decode("utf-8", "replace").strip()


def fixed(name: str, sha256: str) -> str:
    """The store path of a content, by its hash as Nix prints it (``sha256:`` and base 32).

    https://nix.dev/manual/nix/2.28/protocols/store-path
    """
    digest = _decoded(sha256.removeprefix("sha256:"))
    told = hashlib.sha256(f"source:sha256:{digest.hex()}:{STORE}:{name}".encode()).digest()
    folded = bytearray(_FOLDED)
    for place, byte in enumerate(told):
        folded[place % _FOLDED] ^= byte
    number = int.from_bytes(folded, "little")
    letters = [_LETTERS[(number >> (5 * place)) & 31] for place in range(_FOLDED * 8 // 5)]
    return f"{STORE}/{''.join(reversed(letters))}-{name}"


def _decoded(text: str) -> bytes:
    number = 0
    for place, letter in enumerate(reversed(text)):
        value = _LETTERS.find(letter)
        if value < 0:
            return b""
        number |= value << (5 * place)
    return (number & ((1 << 256) - 1)).to_bytes(32, "little")


def _stamp(top: Path) -> str:
    """What changes where anything beneath ``top`` does: names, kinds, sizes, times, and where links lead."""
    digest = hashlib.sha256()
    folders = [str(top)]
    for folder in folders:
        with os.scandir(folder) as found:
            for entry in sorted(found, key=lambda one: one.name):
                told = entry.stat(follow_symlinks=False)
                digest.update(f"{folder}\0{entry.name}\0{told.st_mode}\0{told.st_size}\0{told.st_mtime_ns}\0".encode())
                if entry.is_symlink():
                    digest.update(os.fsencode(Path(entry.path).readlink()) + b"\0")
                elif entry.is_dir():
                    folders.append(entry.path)
    return digest.hexdigest()
