"""Groups with somebody in them already: used for the same limits and no others, counted from then on, and given up."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.sandbox.launcher import reserve as module
from carrel.sandbox.launcher.berths import Berth
from carrel.sandbox.launcher.groups import Place
from carrel.sandbox.launcher.reserve import Reserve
from tests.fakes.groups import delegated
from tests.fakes.launcher import GROUP, LauncherProcess, ended, launcher_process
from tests.fakes.patience import until
from tests.unit.sandbox.launcher.test_groups import groups_of, pids_in


@pytest.fixture
def path() -> Iterator[Path]:
    with delegated() as groups:
        yield Path(groups.path)


@pytest.fixture
def grouped(path: Path) -> Iterator[LauncherProcess]:
    with launcher_process(str(path)) as process:
        yield process


def ran(grouped: LauncherProcess, number: int, **more: Any) -> dict[str, Any]:
    grouped.run(number, "/usr/bin/true", **more)
    return dict(ended(grouped.answer()))


def test_who_starts_a_second_one_finds_the_third_prepared(path: Path, grouped: LauncherProcess) -> None:
    assert ran(grouped, 1)["exit_code"] == 0
    assert until(lambda: groups_of(path) == []), "one alone is worth nothing"
    assert ran(grouped, 2)["exit_code"] == 0
    assert until(lambda: groups_of(path) == ["acme", "acme/r-1"])
    assert until(lambda: len(pids_in(path / "tenants/acme/r-1")) == 1)
    (waiting,) = pids_in(path / "tenants/acme/r-1")
    grouped.run(3, "/usr/bin/sleep", "4000")
    # bubblewrap, which the one that waited has become, the first process inside, and the command.
    assert until(lambda: len(pids_in(path / "tenants/acme/r-1")) == 3)
    assert waiting in pids_in(path / "tenants/acme/r-1")
    assert until(lambda: "acme/r-2" in groups_of(path))
    grouped.order({"do": "kill", "id": 3}, [])
    told = ended(grouped.answer())
    assert told["killed"] == "cancelled"
    assert until(lambda: groups_of(path) == ["acme", "acme/r-2"])


def test_other_limits_are_begun_anew_with_theirs(path: Path, grouped: LauncherProcess) -> None:
    for number in (1, 2):
        ran(grouped, number)
    assert until(lambda: "acme/r-1" in groups_of(path))
    assert ran(grouped, 3, cpu_seconds=7)["exit_code"] == 0
    assert until(lambda: groups_of(path) == ["acme", "acme/r-2"])
    assert ran(grouped, 4, cpu_seconds=7)["exit_code"] == 0


def test_one_that_is_lost_is_no_loss(path: Path, grouped: LauncherProcess) -> None:
    for number in (1, 2):
        ran(grouped, number)
    assert until(lambda: len(pids_in(path / "tenants/acme/r-1")) == 1)
    os.kill(int(pids_in(path / "tenants/acme/r-1")[0]), 9)
    assert until(lambda: groups_of(path) == [])
    assert ran(grouped, 3)["exit_code"] == 0


def test_nothing_is_left_of_it_with_the_launcher(path: Path) -> None:
    with launcher_process(str(path)) as process:
        for number in (1, 2):
            ran(process, number)
        assert until(lambda: "acme/r-1" in groups_of(path))
    assert groups_of(path) == []


class FakePlace:
    def __init__(self, said: list[str], name: str) -> None:
        self.said, self.name, self.fd = said, name, 7

    def renew(self) -> None:
        self.said.append(f"renew {self.name}")

    def end(self, *, kill: bool) -> None:
        self.said.append(f"end {self.name}")


class FakeGroups:
    def __init__(self, said: list[str]) -> None:
        self.said = said

    def begin(self, name: str, wanted: Any, *, kept: bool) -> FakePlace:
        return FakePlace(self.said, f"{wanted['tenant']}/{name}")


class FakeBerth:
    problem: str | None = None

    def __init__(self, pid: int) -> None:
        self.pid = pid


class FakeBerths:
    def __init__(self) -> None:
        self.made = 0
        self.error: OSError | None = None

    def made_in(self, group: int) -> FakeBerth:
        if self.error is not None:
            raise self.error
        self.made += 1
        return FakeBerth(self.made)

    def done(self, berth: object) -> None:
        """Hear no more of it."""


class Bench:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.now = 0.0
        self.berths = FakeBerths()
        groups: Any = FakeGroups(self.said)
        berths: Any = self.berths
        self.reserve = Reserve(groups, berths, lambda: self.now)

    def start(self, tenant: str) -> tuple[Place, Berth] | None:
        return self.reserve.take({**json.loads(json.dumps(GROUP)), "tenant": tenant})

    def fill(self) -> None:
        while self.reserve.short:
            self.reserve.refill()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_one_is_given_up_that_is_not_wanted_for_a_while(bench: Bench) -> None:
    bench.start("acme")
    bench.now = module.IDLE_SECONDS
    bench.start("acme")
    assert not bench.reserve.short, "two starts so far apart are none of several"
    bench.now += 1
    bench.start("acme")
    bench.fill()
    assert bench.reserve.due() == bench.now
    bench.reserve.tidy(bench.now + module.IDLE_SECONDS - 1)
    assert bench.said == []
    bench.reserve.tidy(bench.now + module.IDLE_SECONDS)
    assert (bench.said, bench.reserve.due()) == (["end acme/r-1"], None)


def test_there_are_few_of_them(bench: Bench) -> None:
    tenants = [f"t{number}" for number in range(module.MOST + 2)]
    for tenant in tenants:
        bench.start(tenant)
        bench.start(tenant)
        bench.fill()
    assert bench.said == ["end t0/r-1", "end t1/r-2"]
    taken = bench.start(tenants[-1])
    assert taken is not None
    assert bench.said[-1] == f"renew {tenants[-1]}/r-{module.MOST + 2}"


def test_where_none_can_be_made_it_is_not_tried_again_and_again(bench: Bench) -> None:
    bench.start("acme")
    bench.start("acme")
    bench.berths.error = OSError("no")
    with pytest.raises(OSError, match="no"):
        bench.reserve.refill()
    assert bench.said == ["end acme/r-1"]
    assert not bench.reserve.short
