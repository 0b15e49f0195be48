"""Closures by the Nix program: an expression of ours, a list of names as its argument, a store of the gateway's own.

A tenant's packages are never text in an expression: they are a JSON list that a fixed expression reads, and names that
it does not know are its error.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from carrel import processes
from carrel.packages.closures import STORE_PATH, Closures
from carrel.packages.farm import remove
from carrel.packages.protocol import BuildFailed, PackageError
from carrel.packages.refusals import refusal
from carrel.tenancy.userland import Userland

DAEMON: Final = "daemon"
EVALUATION_BYTES: Final = 2 << 30
_FORMAT: Final = 1
"""Changes where a record or a farm of an older version must not be used any more."""

_GENTLE_SECONDS: Final = 2.0
_SMALL: Final = (".nix", ".sh", ".json", ".lock")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Expression:
    """What is built: ``file`` takes ``packages`` (JSON) and ``arguments``; it may read ``reads`` and nothing else.

    ``substitute`` allows binary caches: ``substituters`` with ``trusted_public_keys``, Nix's own where they are empty.
    A daemon has its own caches and heeds neither.
    """

    name: str
    file: Path
    arguments: Mapping[str, str]
    reads: tuple[Path, ...]
    substitute: bool = False
    substituters: tuple[str, ...] = ()
    trusted_public_keys: tuple[str, ...] = ()


class NixSource:
    """Builds environments with ``nix-build``. ``store`` is as ``--store`` takes it; by default one in ``state_dir``.

    ``store`` "daemon" builds through the machine's Nix daemon into its own store. ``timeout_seconds`` is for one
    environment, ``evaluation_bytes`` the heap that evaluating may take.
    """

    def __init__(
        self,
        expression: Expression,
        *,
        state_dir: Path,
        store: str | None = None,
        timeout_seconds: float = 600.0,
        evaluation_bytes: int = EVALUATION_BYTES,
        copies: bool = True,
    ) -> None:
        self._expression = expression
        self._envs = state_dir / "envs"
        self._home = state_dir / "nix-home"
        self._store = store or str(state_dir / "nix")
        self._timeout = timeout_seconds
        self._evaluation_bytes = evaluation_bytes
        self._closures = Closures(self._envs, self._physical, copies=copies)

    async def available(self) -> str | None:
        """See ``PackageSource.available``."""
        return await asyncio.to_thread(self._missing)

    async def identity(self) -> str:
        """See ``PackageSource.identity``."""
        return await asyncio.to_thread(lambda: f"{self._key(())} {self._missing() or ''}")

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """See ``PackageSource.found``."""
        return await asyncio.to_thread(lambda: self._closures.found(self._key(tuple(sorted(packages)))))

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """See ``PackageSource.build``."""
        names = tuple(sorted(packages))
        reason = await self.available()
        if reason is not None:
            raise PackageError(f"No closure can be built: {reason}.")
        key = await asyncio.to_thread(self._key, names)
        environment = await self._run_nix(names, key, log)
        return await asyncio.to_thread(lambda: self._closures.keep(key, names, self._closures.described(environment)))

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """See ``PackageSource.prune``."""
        await asyncio.to_thread(self._clear_temporary, before)
        return await asyncio.to_thread(self._closures.prune, keys, before)

    async def collect(self) -> None:
        """See ``PackageSource.collect``. A store that others use too is theirs to collect."""
        if self._store == DAEMON or shutil.which("nix-store") is None:
            return
        command = ["nix-store", "--store", self._store, "--gc", *self._settings()]
        try:
            done = await processes.run(command, env=self._environment(), timeout=self._timeout, gentle=_GENTLE_SECONDS)
            done.check("Collecting garbage")
        except processes.ProcessFailed as error:
            _log.warning("the store's garbage cannot be collected", reason=error.message)

    # --- Nix ---

    async def _run_nix(self, names: tuple[str, ...], key: str, log: Callable[[str], None]) -> str:
        await asyncio.to_thread(self._make_directories)
        command = [
            *_politely(), "nix-build", str(self._expression.file), "--out-link", str(self._closures.root(key)),
            # What builders print would be held in memory whole; the end of a failing one is shown all the same.
            "--no-build-output", "--argstr", "packages", json.dumps(names), *self._settings(),
        ]  # fmt: skip
        for name, value in self._expression.arguments.items():
            command += ["--argstr", name, value]
        for number, path in enumerate((self._expression.file.parent, *self._expression.reads)):
            command += ["-I", f"part{number}={path}"]
        try:
            # A builder leads a group of its own and outlives a Nix that is killed at once.
            done = await processes.run(command, env=self._environment(), timeout=self._timeout, gentle=_GENTLE_SECONDS)
        except processes.ProcessFailed as error:
            raise BuildFailed(f"The environment cannot be built: {error.message}") from error
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        for line in lines:
            log(line)
        printed = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and STORE_PATH.fullmatch(printed):
            return printed
        raise refusal(lines)

    def _settings(self) -> list[str]:
        options = ["--store", self._store] if self._store != DAEMON else []
        settings = {
            "restrict-eval": "true",
            "allow-import-from-derivation": "false",
            "sandbox": "true",
            "sandbox-fallback": "false",
            "log-lines": "50",
            # For a builder that a killed gateway has left behind.
            "timeout": str(int(self._timeout)),
        }
        expression = self._expression
        if not expression.substitute:
            # Without this each build waits on a name that may not resolve.
            settings |= {"substitute": "false", "substituters": ""}
        elif expression.substituters and self._store != DAEMON:
            settings |= {
                "substituters": " ".join(expression.substituters),
                "trusted-public-keys": " ".join(expression.trusted_public_keys),
            }
        if self._store != DAEMON:
            settings |= {"build-users-group": "", "sandbox-paths": "", "auto-optimise-store": "false"}
        for name, value in settings.items():
            options += ["--option", name, value]
        return options

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._home),
            "USER": "carrel",
            "TMPDIR": str(self._home / "tmp"),
            "GC_MAXIMUM_HEAP_SIZE": str(self._evaluation_bytes),
        }
        if self._expression.substitute:
            certificates = os.environ.get("NIX_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE")
            environment |= {"NIX_SSL_CERT_FILE": certificates} if certificates else {}
        if self._store != DAEMON:
            # A configuration for many users names a group of builders, which a store of our own has not.
            environment |= {"NIX_CONF_DIR": str(self._home), "NIX_USER_CONF_FILES": "", "NIX_REMOTE": ""}
        return environment

    # --- places ---

    def _missing(self) -> str | None:
        if shutil.which("nix-build") is None:
            return "Nix is missing: install `nix-bin` (Debian, Ubuntu), or Nix from nixos.org, and start again"
        missing = [path for path in (self._expression.file, *self._expression.reads) if not path.exists()]
        if missing:
            return f"the {self._expression.name} is not there: {missing[0].name} is missing; `make userland` fetches it"
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


def _politely() -> list[str]:
    """A build must not slow the gateway that waits for it."""
    return ["nice", "-n", "10"] if shutil.which("nice") is not None else []
