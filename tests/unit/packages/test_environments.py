"""One environment a set, built once; a trial is lent the host's, and only a trial."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import Unavailable
from carrel.packages import environments
from carrel.packages.environments import Environments
from carrel.packages.logs import BuildLogs
from carrel.packages.protocol import About, BuildFailed, EvaluationStopped, NoRoom, PackageError
from carrel.tasks import Tasks
from carrel.tenancy.userland import Userland
from tests.fakes.clock import FakeClock
from tests.fakes.patience import PATIENCE

JQ, GIT = frozenset({"jq"}), frozenset({"git"})


class Source:
    """Builds when told to; ``failures`` come first. What is in ``before`` was built earlier, in ``made`` since."""

    def __init__(self, *failures: Exception) -> None:
        self.go = asyncio.Event()
        self.failures = list(failures)
        self.built: list[frozenset[str]] = []
        self.before: set[frozenset[str]] = set()
        self.made: set[tuple[frozenset[str], str]] = set()
        self.version = "1"
        self.pruned: list[tuple[set[str], datetime]] = []
        self.collected = 0
        self.looked = 0

    async def available(self) -> str | None:
        return None

    async def identity(self) -> str:
        self.looked += 1
        return self.version

    async def catalogue(self) -> Mapping[str, About]:
        return {"jq": About(), "git": About()}

    async def found(self, packages: frozenset[str]) -> Userland | None:
        there = packages in self.before or (packages, self.version) in self.made
        return self.userland(packages) if there else None

    async def build(self, packages: frozenset[str], *, log: Callable[[str], None]) -> Userland:
        log(f"building {sorted(packages)}")
        await self.go.wait()
        self.built.append(packages)
        if self.failures:
            raise self.failures.pop(0)
        self.made.add((packages, self.version))
        return self.userland(packages)

    async def prune(self, keys: Collection[str], *, before: datetime) -> bool:
        self.pruned.append((set(keys), before))
        return True

    async def collect(self) -> None:
        self.collected += 1

    def userland(self, packages: frozenset[str]) -> Userland:
        version = "" if self.version == "1" else self.version
        return Userland("closure", "-".join(sorted(packages)) + version, (), "/bin", "/bin/bash")


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    made = Tasks("test")
    yield made
    await made.close()


def make(source: Source, tasks: Tasks, *, require_closure: bool = True, logs: BuildLogs | None = None) -> Environments:
    return Environments(source=source, require_closure=require_closure, clock=SystemClock(), tasks=tasks, logs=logs)


async def test_what_a_full_disk_left_half_built_goes_at_once(tasks: Tasks) -> None:
    full = NoRoom("The disk is full: the environment cannot be built.")
    source = Source(full, full)
    made = make(source, tasks)
    for packages in (JQ, GIT):
        made.request(packages)
    source.go.set()
    await eventually(lambda: source.collected == 1)
    assert [state.state for state in made.states()] == ["failed", "failed"]
    assert len(source.built) == 2, "not before the other has ended, too"
    other = Source(BuildFailed("no"))
    other.go.set()
    with pytest.raises(BuildFailed):
        await make(other, tasks).userland(JQ, wait=30)
    assert other.collected == 0


async def test_a_set_is_built_once_for_all_who_ask(tasks: Tasks) -> None:
    source = Source()
    made = make(source, tasks)
    made.request(JQ)
    asking = [asyncio.ensure_future(made.userland(JQ, wait=30)) for _ in range(3)]
    await asyncio.sleep(0)
    assert [state.state for state in made.states()] == ["building"]
    source.go.set()
    assert {userland.key for userland in await asyncio.gather(*asking)} == {"jq"}
    await made.userland(GIT, wait=30)
    assert source.built == [JQ, GIT]
    assert [(state.packages, state.state, state.log) for state in made.states()] == [
        (("jq",), "ready", "building ['jq']"),
        (("git",), "ready", "building ['git']"),
    ]
    assert made.summary() == "closure (2 environments)"


async def test_who_must_have_a_closure_waits_so_long_and_is_told(tasks: Tasks) -> None:
    made = make(Source(), tasks)
    with pytest.raises(Unavailable, match="still being built"):
        await made.userland(JQ, wait=0.01)
    assert "being built" in made.summary()


async def test_a_failure_is_told_and_not_tried_again_for_ever(tasks: Tasks) -> None:
    source = Source(PackageError("A package cannot be had: jqq."))
    source.go.set()
    made = make(source, tasks)
    with pytest.raises(PackageError, match="jqq"):
        await made.userland(JQ, wait=30)
    assert (made.states()[0].state, made.states()[0].reason) == ("failed", "A package cannot be had: jqq.")
    assert made.summary() == "none: A package cannot be had: jqq."


async def test_who_says_that_it_is_mended_has_it_tried_once_more(tasks: Tasks) -> None:
    source = Source(PackageError("A package cannot be had: jqq."))
    source.go.set()
    made = make(source, tasks)
    with pytest.raises(PackageError):
        await made.userland(JQ, wait=30)
    made.retry(frozenset({"other"}))
    assert made.states()[0].state == "failed"
    made.retry(JQ)
    assert made.states()[0].state == "building"
    await made.userland(JQ, wait=30)
    built = len(source.built)
    made.retry()
    assert (made.states()[0].state, len(source.built)) == ("ready", built)


async def test_what_may_pass_is_tried_again_for_as_long_as_it_takes(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "RETRY_SECONDS", (0.0, 0.0))
    source = Source(*(BuildFailed("The disk is full.") for _ in range(5)))
    source.go.set()
    made = make(source, tasks)
    made.request(JQ)
    await eventually(lambda: made.states()[0].state == "ready")
    assert len(source.built) == 6


async def test_an_evaluation_without_end_is_given_up_until_something_changes(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "RETRY_SECONDS", (0.0,))
    source = Source(*(EvaluationStopped("Its evaluation was stopped.") for _ in range(environments.EVALUATIONS)))
    source.go.set()
    made = make(source, tasks)
    made.request(JQ)
    await eventually(lambda: len(source.built) == environments.EVALUATIONS and not made._entries[JQ].busy)
    assert made.states()[0].state == "failed"
    made.request(JQ)
    assert not made._entries[JQ].busy, "who asks again is told, and begins nothing"
    made.refresh()
    await eventually(lambda: made.states()[0].state == "ready")


async def test_what_a_build_prints_is_written_down_as_it_goes(
    tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "LOG_SECONDS", 0.01)
    source = Source()
    logs = BuildLogs(tmp_path, hidden="")
    made = make(source, tasks, logs=logs)
    made.request(JQ)
    await eventually(lambda: "ended before it was over\nbuilding ['jq']" in logs.text(JQ))
    source.go.set()
    await eventually(lambda: made.states()[0].state == "ready")
    await eventually(lambda: "built in" in logs.text(JQ))
    assert "ended before" not in logs.text(JQ), "the whole is in its place"


async def test_a_fault_of_our_own_is_told_too(tasks: Tasks) -> None:
    source = Source(ZeroDivisionError())
    source.go.set()
    with pytest.raises(PackageError, match="a fault of Carrel's own"):
        await make(source, tasks).userland(JQ, wait=30)


async def test_what_was_built_before_waits_for_no_build(tasks: Tasks) -> None:
    source = Source()
    source.before.add(GIT)
    made = make(source, tasks)
    for number in range(environments.BUILDS_AT_ONCE + 1):
        made.request(frozenset({f"slow{number}"}))
    assert (await made.userland(GIT, wait=30)).key == "git"
    assert source.built == []
    assert made.summary() == "closure, being built (1 of 4 environments are ready)"


async def test_one_slow_build_does_not_hold_up_another(tasks: Tasks) -> None:
    source = Source()
    made = make(source, tasks)
    made.request(JQ)
    made.request(GIT)
    source.go.set()
    await made.settled()
    assert sorted(map(sorted, source.built)) == [["git"], ["jq"]]


# --- as time goes by ---


async def test_a_source_that_changes_is_built_from_anew_and_the_old_serves_until_then(tasks: Tasks) -> None:
    source = Source()
    source.go.set()
    made = make(source, tasks)
    assert (await made.userland(JQ, wait=30)).key == "jq"
    source.version = "2"
    source.go.clear()
    made.refresh()
    await eventually(lambda: made._entries[JQ].busy)
    assert (await made.userland(JQ, wait=30)).key == "jq"
    source.go.set()
    await eventually(lambda: not made._entries[JQ].busy)
    assert (await made.userland(JQ, wait=30)).key == "jq2"


async def test_what_somebody_removed_is_made_anew(tasks: Tasks) -> None:
    source = Source()
    source.go.set()
    made = make(source, tasks)
    await made.userland(JQ, wait=30)
    made.refresh()
    source.go.clear()
    source.made.clear()
    made.refresh()
    await eventually(lambda: made.states()[0].state == "building")
    assert "made anew" in made.states()[0].reason
    source.go.set()
    await eventually(lambda: made.states()[0].state == "ready")
    assert source.built == [JQ, JQ]


async def test_what_cannot_be_built_anew_goes_on_as_it_was(tasks: Tasks) -> None:
    source = Source()
    source.go.set()
    made = make(source, tasks)
    await made.userland(JQ, wait=30)
    source.version, source.failures = "2", [PackageError("It has no package jq.")]
    made.refresh()
    await eventually(lambda: bool(made.states()[0].reason))
    assert (made.states()[0].state, made.states()[0].reason) == ("ready", "It has no package jq.")
    assert (await made.userland(JQ, wait=30)).key == "jq"


async def test_what_was_missing_is_tried_when_it_is_there(tasks: Tasks) -> None:
    source = Source(PackageError("Nix is missing."))
    source.go.set()
    made = make(source, tasks, require_closure=False)
    assert (await made.userland(JQ, wait=30)).kind == "host"
    made.refresh()
    await asyncio.sleep(0.01)
    assert len(source.built) == 1
    source.version = "2"
    made.refresh()
    await eventually(lambda: made.states()[0].state == "ready")
    assert (await made.userland(JQ, wait=30)).kind == "closure"


async def test_what_no_tenant_wants_is_given_up_after_a_grace(tasks: Tasks) -> None:
    source, clock = Source(), FakeClock()
    source.go.set()
    wanted = {JQ}
    made = Environments(source=source, require_closure=True, clock=clock, tasks=tasks, wanted=lambda: wanted)
    await made.userland(GIT, wait=30)
    await pass_time(made, clock, 1, lambda: len(made.states()) == 2)
    await made.settled()
    wanted.clear()
    await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.collected == 1)
    assert source.pruned[-1] == ({"git", "jq"}, clock.now() - timedelta(seconds=environments.GRACE_SECONDS))
    wanted.add(JQ)
    await pass_time(made, clock, environments.GRACE_SECONDS, lambda: source.collected == 2)
    assert source.pruned[-1][0] == {"jq"}
    assert [state.packages for state in made.states()] == [("jq",)]
    assert (await made.userland(GIT, wait=30)).key == "git"


async def test_what_somebody_holds_is_kept_whoever_wants_it(tasks: Tasks) -> None:
    source, clock = Source(), FakeClock()
    source.go.set()
    made = Environments(
        source=source, require_closure=True, clock=clock, tasks=tasks, wanted=lambda: {JQ}, grace=lambda: 100.0
    )
    held = await made.userland(GIT, wait=30)
    await pass_time(made, clock, 1, lambda: len(made.states()) == 2)
    await made.settled()
    await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.collected == 1)
    assert [state.packages for state in made.states()] == [("jq",)]
    assert source.pruned[-1] == ({"git", "jq"}, clock.now() - timedelta(seconds=100))
    again = await made.userland(GIT, wait=30)
    assert again is held, "one object stands for one userland, whoever asked for it"
    await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.collected == 2)
    del again
    assert source.pruned[-1][0] == {"git", "jq"}
    del held
    await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.collected == 3)
    assert source.pruned[-1][0] == {"jq"}


async def test_what_a_source_gave_before_it_changed_is_kept_while_it_is_held(tasks: Tasks) -> None:
    source, clock = Source(), FakeClock()
    source.go.set()
    made = Environments(source=source, require_closure=True, clock=clock, tasks=tasks, wanted=lambda: {JQ})
    held = await made.userland(JQ, wait=30)
    source.version = "2"
    made.refresh()
    await eventually(lambda: source.built == [JQ, JQ] and not made._entries[JQ].busy)
    await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.collected == 1)
    assert source.pruned[-1][0] == {"jq", "jq2"}
    assert held.key == "jq"


async def test_nothing_is_collected_while_something_is_built(tasks: Tasks) -> None:
    source, clock = Source(), FakeClock()
    source.before.add(JQ)
    made = Environments(source=source, require_closure=True, clock=clock, tasks=tasks, wanted=lambda: {JQ})
    await made.userland(JQ, wait=30)
    made.request(GIT)
    for _ in range(2):
        looked = source.looked
        await pass_time(made, clock, environments.COLLECT_SECONDS + 1, lambda: source.looked > looked)  # noqa: B023 - awaited here
    assert source.pruned == []
    source.go.set()
    await made.settled()
    made.refresh()
    await eventually(lambda: source.collected == 1)


async def test_logs_are_kept_over_a_restart_and_tell_how_each_build_came_out(tasks: Tasks, tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path, hidden=str(tmp_path))
    source, clock = Source(PackageError("It has no package jq.")), FakeClock()
    source.go.set()

    def gateway() -> Environments:
        return Environments(source=source, require_closure=True, clock=clock, tasks=tasks, logs=logs)

    with pytest.raises(PackageError):
        await gateway().userland(JQ, wait=30)
    clock.advance(1)
    made = gateway()
    await made.userland(JQ, wait=30)
    lines = made.states()[0].log.splitlines()
    assert [line.partition("Z ")[2] for line in lines if line.startswith("==")] == [
        "jq: It has no package jq.",
        "jq: built in 0.0 s",
    ]
    assert lines.count("building ['jq']") == 2
    source.before.add(JQ)
    again = gateway()
    await again.userland(JQ, wait=30)
    assert again.states()[0].log.splitlines() == lines


async def pass_time(made: Environments, clock: FakeClock, seconds: float, until: Callable[[], bool]) -> None:
    clock.advance(seconds)
    made.refresh()
    await eventually(until)


async def eventually(told: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not told():
            await asyncio.sleep(0)


async def test_a_closure_may_be_demanded_later(tasks: Tasks) -> None:
    source, demanded = Source(PackageError("Nix is missing.")), [False]
    source.go.set()
    made = Environments(source=source, require_closure=lambda: demanded[0], clock=SystemClock(), tasks=tasks)
    assert (await made.userland(JQ, wait=30)).kind == "host"
    demanded[0] = True
    with pytest.raises(PackageError, match="Nix is missing"):
        await made.userland(JQ, wait=30)


# --- a trial ---


async def test_a_trial_is_lent_the_hosts_where_there_is_no_closure(tasks: Tasks) -> None:
    source = Source(PackageError("No closure can be built: Nix is missing."))
    source.go.set()
    made = make(source, tasks, require_closure=False)
    lent = await made.userland(JQ, wait=30)
    assert (lent.kind, lent.reason) == ("host", "No closure can be built: Nix is missing.")
    assert made.states()[0].state == "host"
    assert made.summary() == "host: No closure can be built: Nix is missing."


async def test_a_trial_is_lent_the_hosts_while_a_build_takes_long(tasks: Tasks) -> None:
    source, clock = Source(), FakeClock()
    made = Environments(source=source, require_closure=False, clock=clock, tasks=tasks)
    made.request(JQ)
    clock.advance(environments.PATIENCE_SECONDS + 1)
    assert (await made.userland(JQ, wait=30)).kind == "host"
    source.go.set()
    await made.settled()
    assert (await made.userland(JQ, wait=30)).kind == "closure"


def test_no_tenant_needs_no_environment() -> None:
    made = Environments(source=Source(), require_closure=True, clock=SystemClock(), tasks=Tasks("test"))
    assert made.summary() == "none yet: no tenant has an agent"
