"""What is declared decides what is built, at the time of the build."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from carrel.declare.gateway import PackagesConfig
from carrel.packages import index
from carrel.packages.nix import NixSource
from carrel.packages.protocol import PackageError
from carrel.packages.sources import DeclaredSource, NoSource, debian_set, nixpkgs

REPOSITORY = Path(__file__).resolve().parents[3]


def source(
    config: PackagesConfig, tmp_path: Path, *, pinned: Path | None = None, checkout: Path = REPOSITORY
) -> DeclaredSource:
    return DeclaredSource(lambda: config, state_dir=tmp_path, pinned=pinned, checkout=checkout)


async def test_no_source_says_so(tmp_path: Path) -> None:
    none = source(PackagesConfig(), tmp_path)
    assert "packages.source" in (await none.available() or "")
    with pytest.raises(PackageError, match=r"packages\.source"):
        await none.build(frozenset(), log=print)
    assert isinstance(none._source(), NoSource)
    assert await none.found(frozenset()) is None
    assert not await none.prune((), before=datetime.now(UTC))
    await none.collect()


def test_the_test_set_is_the_checkouts(tmp_path: Path) -> None:
    made = source(PackagesConfig(source="test-set"), tmp_path)._source()
    assert isinstance(made, NixSource)
    assert made._expression == debian_set(REPOSITORY)
    assert made._expression.file.is_file()
    assert not made._expression.caches.allowed


def test_an_installed_carrel_has_its_pinned_nixpkgs_instead(tmp_path: Path) -> None:
    pinned = tmp_path / "nixpkgs"
    made = source(PackagesConfig(source="test-set"), tmp_path, pinned=pinned, checkout=tmp_path)._source()
    assert isinstance(made, NixSource)
    assert made._expression == nixpkgs(pinned, PackagesConfig())
    assert made._expression.file.is_file()


async def test_nixpkgs_must_be_somewhere(tmp_path: Path) -> None:
    nowhere = source(PackagesConfig(source="nixpkgs"), tmp_path)
    assert "packages.path" in (await nowhere.available() or "")
    with pytest.raises(PackageError, match=r"packages\.path"):
        await nowhere.build(frozenset(), log=print)
    made = source(PackagesConfig(source="nixpkgs", path="/somewhere"), tmp_path)._source()
    assert isinstance(made, NixSource)


def test_binary_caches_are_the_operators(tmp_path: Path) -> None:
    config = PackagesConfig(
        source="nixpkgs", path="/somewhere", substituters=("https://cache.example",), trusted_public_keys=("a:b=",)
    )
    made = source(config, tmp_path)._source()
    assert isinstance(made, NixSource)
    settings = made._nix.settings()
    assert settings[settings.index("substituters") + 1] == "https://cache.example"
    assert settings[settings.index("trusted-public-keys") + 1] == "a:b="
    plain = source(PackagesConfig(source="nixpkgs", path="/somewhere"), tmp_path)._source()
    assert isinstance(plain, NixSource)
    assert "substituters" not in plain._nix.settings()


async def test_an_index_is_where_the_module_puts_it_or_where_it_is_said_to_be(tmp_path: Path) -> None:
    made = source(PackagesConfig(source="index"), tmp_path)
    assert "no package index" in (await made.available() or "")
    assert str(index.WHERE) in await made.identity()
    config = PackagesConfig(source="index", path=str(tmp_path / "packages.json"), store=str(tmp_path))
    named = source(config, tmp_path)
    assert f"{tmp_path}/packages.json {tmp_path}" in await named.identity()
    assert named._source() is named._source()


async def test_a_change_of_what_is_declared_is_a_change_of_identity(tmp_path: Path) -> None:
    config = [PackagesConfig(source="test-set")]
    made = DeclaredSource(lambda: config[0], state_dir=tmp_path, pinned=None, checkout=REPOSITORY)
    first = await made.identity()
    assert await made.identity() == first
    for other in (
        PackagesConfig(),
        PackagesConfig(source="nixpkgs", path="/a"),
        PackagesConfig(source="nixpkgs", path="/b"),
    ):
        config[0] = other
        before, first = first, await made.identity()
        assert first != before


async def test_a_set_that_is_not_fetched_is_named(tmp_path: Path) -> None:
    reason = await source(PackagesConfig(source="test-set"), tmp_path, checkout=tmp_path).available()
    assert reason is not None
    assert "make userland" in reason
