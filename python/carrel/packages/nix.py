"""Closures by the Nix program: an expression of ours, a list of names as its argument, a store of the gateway's own.

A tenant's packages are never text in an expression: they are a JSON list that a fixed expression reads, and names that
it does not know are its error. It is evaluated first, within limits of its own, and what comes of it is built then.
"""

import asyncio
import contextlib
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from carrel.packages import catalogue, refusals
from carrel.packages.closures import STORE_PATH, Closures
from carrel.packages.farm import remove
from carrel.packages.inputs import Inputs
from carrel.packages.nix_program import DAEMON, Caches, Limits, Lines, NixProgram
from carrel.packages.protocol import About, BuildFailed, PackageError, UnknownPackage, fits
from carrel.tenancy.userland import Userland

_FORMAT: Final = 1
"""Changes where a record or a farm of an older version must not be used any more."""

_PURE: Final = Path(__file__).resolve().with_name("expressions") / "pure.nix"
_SMALL: Final = (".nix", ".sh", ".json", ".lock")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Expression:
    """What is built: ``file`` takes ``packages`` (JSON), ``system`` and ``arguments``; it may read ``reads`` and
    nothing else. ``names`` gives the packages that there are: an expression, or a JSON file with a list ``packages``.
    """

    name: str
    file: Path
    arguments: Mapping[str, str]
    reads: tuple[Path, ...]
    names: Path | None = None
    caches: Caches = field(default_factory=Caches)


class NixSource:
    """Builds environments with Nix. ``store`` is as ``--store`` takes it; by default one in ``state_dir``.

    ``store`` "daemon" builds through the machine's Nix daemon into its own store.
    """

    def __init__(
        self,
        expression: Expression,
        *,
        state_dir: Path,
        store: str | None = None,
        limits: Limits | None = None,
        copies: bool = True,
    ) -> None:
        self._expression = expression
        self._envs = state_dir / "envs"
        self._home = state_dir / "nix-home"
        self._store = store or str(state_dir / "nix")
        self._limits = limits or Limits()
        self._nix = NixProgram(self._store, self._home, expression.caches, self._limits)
        self._inputs = Inputs(self._nix, self._envs / "inputs", self._store)
        self._closures = Closures(self._envs, self._physical, copies=copies)

    async def available(self) -> str | None:
        """See ``PackageSource.available``."""
        return await asyncio.to_thread(self._missing)

    async def identity(self) -> str:
        """See ``PackageSource.identity``."""
        return await asyncio.to_thread(lambda: f"{self._key(())} {self._missing() or ''} {self._limits}")

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """See ``PackageSource.found``."""
        return await asyncio.to_thread(lambda: self._closures.found(self._key(tuple(sorted(packages)))))

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """See ``PackageSource.build``."""
        names = tuple(sorted(packages))
        for name in names:
            if not fits(name):
                raise refusals.unknown(self._expression.name, name, ())
        await self._must_be_available()
        key = await asyncio.to_thread(self._key, names)
        plan = self._closures.plan(key)
        try:
            try:
                await self._evaluate(names, plan, log)
            except UnknownPackage as error:
                raise await self._with_the_nearest(names, error) from error
            environment = await self._realise(plan, key, log)
        finally:
            await asyncio.to_thread(remove, plan)
        return await asyncio.to_thread(lambda: self._closures.keep(key, names, self._closures.described(environment)))

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """See ``PackageSource.prune``."""
        await asyncio.to_thread(self._clear_temporary, before)
        return await asyncio.to_thread(self._closures.prune, keys, before)

    async def collect(self) -> None:
        """See ``PackageSource.collect``. A store that others use too is theirs to collect."""
        if self._store == DAEMON or shutil.which("nix-store") is None:
            return
        lines = Lines(lambda _: None)
        try:
            done = await self._nix.build(["nix-store", "--gc"], lines)
            failure = "" if done.returncode == 0 else "\n".join(lines.kept)[-2000:]
        except BuildFailed as error:
            failure = error.message
        if failure:
            _log.warning("the store's garbage cannot be collected", reason=failure)

    async def catalogue(self) -> Mapping[str, About]:
        """See ``PackageSource.catalogue``. Evaluating all of nixpkgs takes a while: what came of it is kept."""
        file = self._expression.names
        if file is None:
            return {}
        if file.suffix == ".json":
            return dict.fromkeys(await asyncio.to_thread(catalogue.listed, file), About())
        key = await asyncio.to_thread(self._key, ())
        names = await asyncio.to_thread(catalogue.kept, self._envs, key)
        if names is None:
            names = await self._evaluated_names(file)
            await asyncio.to_thread(catalogue.keep, self._envs, key, names)
        return dict.fromkeys(names, About())

    # --- Nix ---

    async def _evaluated_names(self, file: Path) -> tuple[str, ...]:
        await self._must_be_available()
        lines = Lines(lambda _: None)
        command = ["nix-instantiate", "--eval", "--strict", "--json", *await self._purely(file, lines)]
        done = await self._nix.evaluate(command, lines)
        if done.returncode != 0:
            raise refusals.not_evaluated(tuple(lines.kept))
        return catalogue.understood(done.stdout)

    async def _with_the_nearest(self, names: tuple[str, ...], error: UnknownPackage) -> UnknownPackage:
        """The same error with what was probably meant, where that can be known."""
        try:
            known = await self.catalogue()
        except PackageError:
            return error
        name = next((name for name in names if name not in known), None)
        return error if name is None or not known else refusals.unknown(self._expression.name, name, known)

    async def _must_be_available(self) -> None:
        reason = await self.available()
        if reason is not None:
            raise PackageError(f"No closure can be built: {reason}.")
        await asyncio.to_thread(self._make_directories)

    async def _evaluate(self, names: tuple[str, ...], plan: Path, log: Callable[[str], None]) -> None:
        """Make ``plan`` the link, and root, of the derivation that is to be built."""
        lines = Lines(log)
        command = ["nix-instantiate", "--add-root", str(plan), *await self._purely(self._expression.file, lines)]
        command += ["--argstr", "packages", json.dumps(names)]
        done = await self._nix.evaluate(command, lines)
        if done.returncode != 0:
            raise refusals.not_evaluated(tuple(lines.kept))

    async def _realise(self, plan: Path, key: str, log: Callable[[str], None]) -> str:
        lines = Lines(log)
        root = self._closures.root(key)
        derivation = await asyncio.to_thread(_led_to, plan)
        done = await self._nix.build(["nix-store", "--realise", derivation, "--add-root", str(root)], lines)
        if done.returncode == 0:
            return await asyncio.to_thread(_led_to, root)
        raise refusals.not_built(tuple(lines.kept))

    async def _purely(self, file: Path, lines: Lines) -> list[str]:
        """The words that evaluate ``file``: all that it may read is in the store, and is given with its hash."""
        reads = (file.parent, *self._expression.reads)
        inputs = await self._inputs.given(reads, lines)
        numbers = {str(path): number for number, path in enumerate(reads)}
        arguments = self._expression.arguments
        told = {
            "inputs": [one.model_dump(include={"path", "name", "sha256"}) for one in inputs],
            "plain": {name: value for name, value in arguments.items() if value not in numbers},
            "pinned": {name: numbers[value] for name, value in arguments.items() if value in numbers},
        }
        words = ["--expr", await asyncio.to_thread(_PURE.read_text, encoding="utf-8")]
        words += ["--argstr", "system", f"{platform.machine()}-linux", "--argstr", "expression", file.name]
        for name, value in told.items():
            words += ["--argstr", name, json.dumps(value)]
        return words

    # --- places ---

    def _missing(self) -> str | None:
        if shutil.which("nix-instantiate") is None:
            return "Nix is missing: install `nix-bin` (Debian, Ubuntu), or Nix from nixos.org, and start again"
        missing = [path for path in (self._expression.file, *self._expression.reads) if not path.exists()]
        if missing:
            return f"{self._expression.name} is not there: {missing[0].name} is missing; `make userland` fetches it"
        return None

    def _key(self, names: tuple[str, ...]) -> str:
        """A name for the content: the packages, the arguments, and all that the expression reads that is small."""
        arguments = sorted(self._expression.arguments.items())
        told = [_FORMAT, self._expression.name, arguments, self._store, names]
        digest = hashlib.sha256(json.dumps(told).encode())
        for top in (self._expression.file.parent, *self._expression.reads):
            with contextlib.suppress(OSError):
                files = sorted(top.iterdir()) if top.is_dir() else [top]
                for file in files:
                    if file.suffix in _SMALL and file.is_file():
                        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()[:20]

    def _physical(self, path: str) -> Path:
        return Path(path) if self._store == DAEMON else Path(self._store + path)

    def _make_directories(self) -> None:
        try:
            for path in (self._envs, self._home, self._home / "tmp"):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BuildFailed(f"No closure can be built: a directory cannot be made ({error.strerror}).") from error

    def _clear_temporary(self, before: datetime) -> None:
        """Remove what builds that were killed have left."""
        with contextlib.suppress(FileNotFoundError):
            for path in (self._home / "tmp").iterdir():
                if path.lstat().st_mtime < before.timestamp():
                    remove(path)


def _led_to(root: Path) -> str:
    """The store path that Nix has made ``root`` a link to."""
    try:
        path = str(root.readlink())
    except OSError as error:
        raise BuildFailed("The environment cannot be built: Nix did not say what came of it.") from error
    if not STORE_PATH.fullmatch(path):
        raise BuildFailed("The environment cannot be built: what came of it is no store path.")
    return path
