"""The expression for nixpkgs and its limits, by the real Nix on a stand-in for nixpkgs that misbehaves in many ways."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from carrel.declare.allowlists import PackageAllowlist
from carrel.declare.gateway import PackagesConfig
from carrel.packages.nix import NixSource
from carrel.packages.nix_program import Limits
from carrel.packages.protocol import BuildFailed, PackageError, UnknownPackage
from carrel.packages.sources import nixpkgs
from tests.fakes.packageset import Built
from tests.fakes.patience import eventually
from tests.fakes.running import running


class Asking:
    """Asks for one package of the stand-in."""

    def __init__(self, stand_in: Path, built: Built) -> None:
        self.stand_in, self.state = stand_in, built.state
        self.lines: list[str] = []

    def source(
        self, limits: Limits | None = None, *, unfree: Sequence[str] = (), insecure: Sequence[str] = ()
    ) -> NixSource:
        allowed = PackageAllowlist(unfree=tuple(unfree), insecure=tuple(insecure))
        config = PackagesConfig(substituters=("file:///nowhere",))
        return NixSource(nixpkgs(self.stand_in, config, allowed), state_dir=self.state, limits=limits)

    async def refusal(self, name: str, limits: Limits | None = None) -> PackageError:
        with pytest.raises(PackageError) as caught:
            await self.source(limits).build(frozenset({name}), log=self.lines.append)
        assert not list((self.state / "envs").glob("*.plan")), "nothing is left of it"
        return caught.value


@pytest.fixture
def ask(stand_in: Path, built: Built) -> Asking:
    return Asking(stand_in, built)


async def test_a_name_that_is_not_there_is_told_with_the_nearest(ask: Asking) -> None:
    error = await ask.refusal("rpigrep")
    assert isinstance(error, UnknownPackage)
    assert "has no package `rpigrep`. Did you mean `ripgrep`?" in error.message


async def test_what_there_is_are_packages_and_nothing_else(ask: Asking) -> None:
    names = await ask.source().catalogue()
    assert {"jq", "git", "bashInteractive", "unfree-tool", "loops"} <= set(names)
    assert not {"aFunction", "gone", "lib", "runCommand", "buildEnv", "stdenv"} & set(names)
    kept = ask.state / "envs" / "catalogue.json"
    assert kept.exists()
    kept.write_text("{")
    assert await ask.source().catalogue() == names


async def test_an_unfree_package_is_built_where_the_operator_names_it(ask: Asking) -> None:
    error = await ask.refusal("unfree-tool")
    assert error.message == (
        "The package unfree-tool-1.0 is unfree, and the operator does not permit it: packages.unfree of "
        "_allowlists.yaml would have to name unfree-tool."
    )
    assert not error.retryable
    made = await ask.source(unfree=["unfree-tool"]).build(frozenset({"unfree-tool"}), log=print)
    assert list(Path(made.mounts[0].source).glob("*-unfree-tool-1.0/bin/unfree-tool"))


async def test_an_insecure_package_is_built_where_the_operator_names_it_with_its_version(ask: Asking) -> None:
    error = await ask.refusal("old-tool")
    assert "old-tool-1.1w is insecure" in error.message
    assert "packages.insecure of _allowlists.yaml would have to name old-tool-1.1w." in error.message
    with pytest.raises(PackageError, match="is insecure"):
        await ask.source(insecure=["old-tool-1.0"]).build(frozenset({"old-tool"}), log=print)
    await ask.source(insecure=["old-tool-1.1w"]).build(frozenset({"old-tool"}), log=print)


async def test_what_is_permitted_is_part_of_what_a_build_depends_on(ask: Asking) -> None:
    assert await ask.source().identity() != await ask.source(unfree=["unfree-tool"]).identity()
    assert await ask.source().identity() != await ask.source(Limits(build_seconds=1)).identity()


async def test_an_evaluation_without_an_end_is_ended(ask: Asking) -> None:
    error = await ask.refusal("loops", Limits(evaluation_seconds=2))
    assert "its evaluation was stopped" in error.message
    assert "evaluation_seconds" in error.message
    assert not running("nix-instantiate", str(ask.state))


async def test_an_evaluation_that_is_given_up_is_ended(ask: Asking) -> None:
    task = asyncio.ensure_future(ask.source().build(frozenset({"loops"}), log=print))
    await eventually(lambda: running("nix-instantiate", str(ask.state)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not running("nix-instantiate", str(ask.state))


@pytest.mark.parametrize("name", ["eats", "recurses"])
async def test_an_evaluation_that_takes_all_memory_is_ended(ask: Asking, name: str) -> None:
    error = await ask.refusal(name, Limits(evaluation_bytes=256 << 20))
    assert "took more memory than it may (packages.evaluation_memory_bytes)" in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("imports", "evaluating it would have to build made-first first"),
        ("reads", "forbidden in pure eval mode"),
        ("fetches", "forbidden in restricted mode"),
        ("asks", "attribute 'currentTime' missing"),
        ("wonders", "that the machine is `'"),
    ],
)
async def test_an_evaluation_builds_reads_and_fetches_nothing(ask: Asking, name: str, told: str) -> None:
    assert told in (await ask.refusal(name)).message


async def test_a_build_that_fails_is_told_with_its_log(ask: Asking) -> None:
    error = await ask.refusal("fails")
    assert error.message == "The environment cannot be built: fails failed with exit code 3: the reason."
    assert isinstance(error, BuildFailed)
    assert {"one", "two red", "the reason"} <= set(ask.lines)


async def test_a_build_that_writes_too_much_is_stopped(ask: Asking) -> None:
    error = await ask.refusal("chatters", Limits(log_bytes=1 << 14))
    assert "chatters killed after writing more than 16384 bytes of log output" in error.message


async def test_a_build_that_says_nothing_for_long_is_stopped(ask: Asking) -> None:
    error = await ask.refusal("sleeps", Limits(silent_seconds=1))
    assert "sleeps timed out after 1 seconds of silence" in error.message
    assert not running("sleep", "353.9")


async def test_a_build_that_takes_long_is_stopped_with_all_that_it_started(ask: Asking) -> None:
    error = await ask.refusal("sleeps", Limits(build_seconds=3))
    assert "was over its 3 s" in error.message or "timed out" in error.message
    assert not running("sleep", "353.9")
