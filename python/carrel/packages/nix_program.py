"""Nix's programs as they are run here: with settings and limits of ours, and of the machine's only what must be.

Evaluation is pure: it reads the expression and what it is given with its hash, and nothing else: no network, no
environment, no clock, no other file, nothing that it would first have to build.
"""

import os
import resource
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel import processes
from carrel.packages.protocol import BuildFailed, EvaluationStopped
from carrel.telemetry import escape_text

DAEMON: Final = "daemon"
_GENTLE_SECONDS: Final = 2.0
_BESIDE_HEAP: Final = 3 << 30
"""Address space for what is not the evaluator's heap: its code, its stack of 64 MiB, its threads."""
_KEPT_LINES: Final = 2000
_LINE: Final = 2000


@dataclass(frozen=True, slots=True)
class Limits:
    """What making one environment may take. ``build_seconds`` is for all its builds, ``silent_seconds`` and
    ``log_bytes`` for each.
    """

    evaluation_seconds: float = 120.0
    evaluation_bytes: int = 2 << 30
    build_seconds: float = 600.0
    silent_seconds: float = 600.0
    log_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class Caches:
    """Whence Nix may fetch: from its own caches where ``substituters`` is empty. A daemon has its own."""

    allowed: bool = False
    substituters: tuple[str, ...] = ()
    trusted_public_keys: tuple[str, ...] = ()


class Lines:
    """Standard error by lines, harmless ones: handed on, and the last of them kept."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = b""
        self.kept: deque[str] = deque(maxlen=_KEPT_LINES)

    def feed(self, piece: bytes) -> None:
        """Take what was written."""
        *lines, rest = (self._rest + piece).replace(b"\r", b"\n").split(b"\n")
        # Of a line without an end only so much is held.
        self._rest = rest[: 2 * _LINE]
        for line in lines:
            self._say(line)

    def end(self) -> None:
        """A last line may have no end."""
        if self._rest:
            self._say(self._rest)
            self._rest = b""

    def _say(self, line: bytes) -> None:
        text = escape_text(line[:_LINE].decode("utf-8", "replace").replace("\t", "    "))
        self.kept.append(text)
        self._log(text)


class NixProgram:
    """Runs them on one ``store`` (as ``--store`` takes it, or "daemon") with ``home`` as their home."""

    def __init__(self, store: str, home: Path, caches: Caches, limits: Limits) -> None:
        self._store = store
        self._home = home
        self._caches = caches
        self._limits = limits

    async def evaluate(self, command: Sequence[str], lines: Lines) -> processes.Completed:
        """Run a program that evaluates; raises EvaluationStopped where it is over its time."""
        seconds = self._limits.evaluation_seconds
        limits = {
            resource.RLIMIT_AS: self._limits.evaluation_bytes + _BESIDE_HEAP,
            # Its collector has several threads.
            resource.RLIMIT_CPU: max(1, int(seconds * 4)),
            resource.RLIMIT_CORE: 0,
        }
        try:
            return await self._run([*command, *self.settings()], seconds, lines, 0.0, limits)
        except processes.ProcessFailed as error:
            raise EvaluationStopped(
                f"The environment cannot be built: its evaluation was stopped ({error.message.rstrip('.')}). "
                "packages.evaluation_seconds is its limit."
            ) from error

    async def build(self, command: Sequence[str], lines: Lines) -> processes.Completed:
        """Run a program that builds or collects; raises BuildFailed where it is over its time, or is killed."""
        # A builder leads a group of its own: Nix is told to end, and takes it along.
        try:
            done = await self._run(
                [*command, *self.settings()], self._limits.build_seconds, lines, _GENTLE_SECONDS, {}
            )  # fmt: skip
        except processes.ProcessFailed as error:
            raise BuildFailed(
                f"The environment cannot be built: {error.message.rstrip('.')} (packages.build_timeout_seconds)."
            ) from error
        if done.returncode < 0:
            # What it said last is no reason.
            name = signal.Signals(-done.returncode).name
            raise BuildFailed(
                f"The environment cannot be built: Nix was ended by {name}, by another hand or for want of memory."
            )
        return done

    async def _run(
        self, command: Sequence[str], seconds: float, lines: Lines, gentle: float, limits: Mapping[int, int]
    ) -> processes.Completed:
        words = [*_politely(), *command]
        try:
            return await processes.run(
                words, env=self._environment(), timeout=seconds, gentle=gentle, limits=limits, on_error=lines.feed,
                name="Nix",
            )  # fmt: skip
        finally:
            lines.end()

    def settings(self) -> list[str]:
        """Options that say everything: no file of the machine's has a part in it."""
        options = ["--store", self._store] if self._store != DAEMON else []
        settings = {
            "pure-eval": "true",
            "restrict-eval": "true",
            "allow-import-from-derivation": "false",
            "sandbox": "true",
            "sandbox-fallback": "false",
            "log-lines": "50",
            # For a builder that a killed gateway has left behind.
            "timeout": str(max(1, int(self._limits.build_seconds))),
            "max-silent-time": str(max(1, int(self._limits.silent_seconds))),
            "max-build-log-size": str(self._limits.log_bytes),
        }
        caches = self._caches
        if not caches.allowed:
            # Without this each build waits on a name that may not resolve.
            settings |= {"substitute": "false", "substituters": ""}
        elif caches.substituters and self._store != DAEMON:
            settings |= {
                "substituters": " ".join(caches.substituters),
                "trusted-public-keys": " ".join(caches.trusted_public_keys),
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
            "GC_MAXIMUM_HEAP_SIZE": str(self._limits.evaluation_bytes),
        }
        if self._caches.allowed:
            certificates = os.environ.get("NIX_SSL_CERT_FILE") or os.environ.get("SSL_CERT_FILE")
            environment |= {"NIX_SSL_CERT_FILE": certificates} if certificates else {}
        if self._store == DAEMON:
            # Said, for Nix would choose by what it may write to, and might choose another store.
            environment |= {"NIX_REMOTE": "daemon"}
        else:
            # A configuration for many users names a group of builders, which a store of our own has not.
            environment |= {"NIX_CONF_DIR": str(self._home), "NIX_USER_CONF_FILES": "", "NIX_REMOTE": ""}
        return environment


def _politely() -> list[str]:
    """A build must not slow the gateway that waits for it."""
    return ["nice", "-n", "10"] if shutil.which("nice") is not None else []
