"""What packages there are is found out once, off the request path."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from carrel.errors import Unavailable
from carrel.packages.known import AGAIN_SECONDS, KnownPackages
from carrel.packages.protocol import About, PackageError
from carrel.tasks import Tasks
from tests.fakes.clock import FakeClock
from tests.unit.packages.test_environments import Source


class Slow(Source):
    """Tells what it has when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def catalogue(self) -> dict[str, About]:
        self.asked += 1
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return {f"jq{self.version}": About()}


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks("test")
    yield made
    await made.close()


async def test_it_is_found_out_once_for_all_who_ask(tasks: Tasks) -> None:
    source = Slow()
    known = KnownPackages(source, clock=FakeClock(), tasks=tasks)
    with pytest.raises(Unavailable, match="still being found out"):
        await known.names(wait=0.0)
    asking = [asyncio.ensure_future(known.names(wait=30)) for _ in range(3)]
    await asyncio.sleep(0)
    source.go.set()
    assert [set(names) for names in await asyncio.gather(*asking)] == [{"jq1"}] * 3
    assert set(await known.names(wait=0.0)) == {"jq1"}
    assert source.asked == 1


async def test_another_state_of_the_source_is_found_out_anew(tasks: Tasks) -> None:
    source = Slow()
    source.go.set()
    known = KnownPackages(source, clock=FakeClock(), tasks=tasks)
    assert set(await known.names(wait=30)) == {"jq1"}
    source.version = "2"
    assert set(await known.names(wait=30)) == {"jq2"}


async def test_a_failure_is_told_and_tried_again_after_a_while(tasks: Tasks) -> None:
    source, clock = Slow(), FakeClock()
    source.go.set()
    source.failures = [PackageError("Nix is missing.")]
    known = KnownPackages(source, clock=clock, tasks=tasks)
    for _ in range(2):
        with pytest.raises(PackageError, match="Nix is missing"):
            await known.names(wait=30)
    assert source.asked == 1
    clock.advance(AGAIN_SECONDS)
    assert set(await known.names(wait=30)) == {"jq1"}
