"""Which expression is built, by what `_gateway.yaml` says under `packages`, or none."""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

import carrel
from carrel.declare.allowlists import PackageAllowlist
from carrel.declare.gateway import PackagesConfig
from carrel.packages import index
from carrel.packages.nix import Expression, NixSource
from carrel.packages.nix_program import DAEMON, Caches, Limits
from carrel.packages.prebuilt import IndexSource
from carrel.packages.protocol import About, PackageError, PackageSource
from carrel.tenancy.userland import Userland

_CHECKOUT: Final = Path(carrel.__file__).resolve().parents[2]
_EXPRESSIONS: Final = Path(__file__).resolve().with_name("expressions")
_NOTHING_MORE: Final = PackageAllowlist()
SYSTEM: Final = "CARREL_NIXPKGS"
"""Names the pinned nixpkgs, where the package that Nix builds of Carrel is what runs."""


class NoSource:
    """No packages at all; ``reason`` says why."""

    def __init__(self, reason: str = "_gateway.yaml names no source of packages (packages.source)") -> None:
        self._reason = reason

    async def available(self) -> str | None:
        """See ``PackageSource.available``."""
        return self._reason

    async def identity(self) -> str:
        """See ``PackageSource.identity``."""
        return self._reason

    async def catalogue(self) -> Mapping[str, About]:
        """See ``PackageSource.catalogue``."""
        raise PackageError(f"There are no packages: {self._reason}.")

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """See ``PackageSource.found``."""
        return None

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """See ``PackageSource.build``."""
        raise PackageError(f"No closure can be built: {self._reason}.")

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """See ``PackageSource.prune``. What another source built may be wanted again."""
        return False

    async def collect(self) -> None:
        """See ``PackageSource.collect``."""


def debian_set(checkout: Path) -> Expression:
    """The project's own set, made of Debian packages, in a checkout of it."""
    # Nix reads where a link leads, and judges what it may read by that.
    top = checkout.resolve()
    here, debs = top / "tests" / "packageset", top / ".cache" / "packageset"
    return Expression("the test set", here / "default.nix", {"debs": str(debs)}, (debs,), here / "packages.json")


def nixpkgs(path: Path, config: PackagesConfig, allowed: PackageAllowlist = _NOTHING_MORE) -> Expression:
    """The pinned nixpkgs at ``path``; what binary caches have is not built again.

    Of what is unfree or insecure only what is ``allowed`` by its name can be built.
    """
    return Expression(
        "nixpkgs",
        _EXPRESSIONS / "nixpkgs.nix",
        {
            "nixpkgs": str(path.resolve()),
            "unfree": json.dumps(sorted(allowed.unfree)),
            "insecure": json.dumps(sorted(allowed.insecure)),
        },
        (path.resolve(),),
        _EXPRESSIONS / "names.nix",
        Caches(True, config.substituters, config.trusted_public_keys),
    )


class DeclaredSource:
    """The source that is declared at the time of a build: a change of it needs no restart.

    ``allowed`` gives the operator's allowlist: what it says of unfree and insecure packages.
    ``pinned`` is the nixpkgs that this installation was made with. A trial's `test-set` is replaced by it where Carrel
    does not run from a checkout.
    """

    def __init__(
        self,
        declared: Callable[[], PackagesConfig],
        *,
        state_dir: Path,
        pinned: Path | None,
        allowed: Callable[[], PackageAllowlist] = PackageAllowlist,
        checkout: Path = _CHECKOUT,
    ) -> None:
        self._declared = declared
        self._allowed = allowed
        self._state_dir = state_dir
        self._pinned = pinned
        self._checkout = checkout
        self._indexed: tuple[PackagesConfig, IndexSource] | None = None

    async def available(self) -> str | None:
        """See ``PackageSource.available``."""
        return await self._source().available()

    async def identity(self) -> str:
        """See ``PackageSource.identity``."""
        return await self._source().identity()

    async def catalogue(self) -> Mapping[str, About]:
        """See ``PackageSource.catalogue``."""
        return await self._source().catalogue()

    async def found(self, packages: frozenset[str]) -> Userland | None:
        """See ``PackageSource.found``."""
        return await self._source().found(packages)

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        """See ``PackageSource.build``."""
        return await self._source().build(packages, log=log)

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        """See ``PackageSource.prune``."""
        return await self._source().prune(keys, before=before)

    async def collect(self) -> None:
        """See ``PackageSource.collect``."""
        await self._source().collect()

    def _source(self) -> PackageSource:
        config = self._declared()
        path = Path(config.path) if config.path is not None else None
        if config.source == "none":
            return NoSource()
        if config.source == "index":
            return self._index(path or index.WHERE, config)
        if config.source == "test-set" and (self._pinned is None or self._has_test_set(path)):
            expression = debian_set(path or self._checkout)
        else:
            pinned = (path if config.source == "nixpkgs" else None) or self._pinned
            if pinned is None:
                return NoSource("packages.source is nixpkgs, and packages.path does not say where it is")
            expression = nixpkgs(pinned, config, self._allowed())
        return NixSource(
            expression,
            state_dir=self._state_dir,
            store=config.store,
            limits=Limits(
                evaluation_seconds=config.evaluation_seconds,
                evaluation_bytes=config.evaluation_memory_bytes,
                build_seconds=config.build_timeout_seconds,
                silent_seconds=config.build_silent_seconds,
                log_bytes=config.build_log_bytes,
            ),
            copies=config.copy_closures,
        )

    def _index(self, file: Path, config: PackagesConfig) -> IndexSource:
        """One for as long as the same is declared: it has read its index already."""
        if self._indexed is None or self._indexed[0] != config:
            root = "" if config.store in (None, DAEMON) else str(config.store)
            made = IndexSource(file, state_dir=self._state_dir, root=root, copies=config.copy_closures)
            self._indexed = config, made
        return self._indexed[1]

    def _has_test_set(self, path: Path | None) -> bool:
        return debian_set(path or self._checkout).file.exists()
