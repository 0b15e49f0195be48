"""What gives tenants their userland."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from carrel.declare.base import PACKAGE_NAME
from carrel.errors import CarrelError
from carrel.tenancy.userland import Userland


def fits(name: str) -> bool:
    """Whether a package can be called so at all. No source is asked for one that cannot."""
    return PACKAGE_NAME.fullmatch(name) is not None


class PackageError(CarrelError):
    """A closure cannot be had: no Nix, an unknown package, a build that failed. The message ends with what to do."""

    code = "package_error"


class UnknownPackage(PackageError):
    """The source has no such package."""


class BuildFailed(PackageError):
    """A closure could not be built this time; another time it may."""

    retryable = True


class NoRoom(BuildFailed):
    """The disk was full."""


class EvaluationStopped(BuildFailed):
    """An evaluation was over its time: the machine was busy, or the expression has no end."""


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """Where one package set stands. ``reason`` says why it failed or what it waits for; ``log`` ends the build log."""

    packages: tuple[str, ...]
    state: Literal["building", "ready", "failed", "host"]
    userland: Userland | None
    reason: str = ""
    log: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class About:
    """What a source tells of a package beside its name, where it does."""

    version: str = ""
    description: str = ""


class PackageSource(Protocol):
    """Builds a closure. One adapter for each place that packages come from."""

    async def available(self) -> str | None:
        """None where it works here, else what is missing."""
        ...

    async def identity(self) -> str:
        """What a build depends on, the packages apart: where it changes, another build may come out otherwise."""
        ...

    async def catalogue(self) -> Mapping[str, About]:
        """The names that there are; raises PackageError where that cannot be known now. It may take a minute."""
        ...

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """The closure that `build` would give, where it was built before: at once, and without the builder."""
        ...

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """The closure of ``packages`` and the base set, GC-rooted under envs/; raises PackageError."""
        ...

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """Forget every userland but those of ``keys`` that was last used ``before``; True where any was."""
        ...

    async def collect(self) -> None:
        """Give back the disk that what was forgotten still takes."""
        ...
