"""The schedule over a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from carrel.agents.sends import TurnCancelled
from carrel.declare.jobs import DeclaredJob
from carrel.declare.tenant import Member, SandboxConfig
from carrel.errors import Conflict, NotFound, StorageFailed
from carrel.events.hub import Event, Hub, Subscription
from carrel.schedule import book
from carrel.schedule.book import Job, Run
from carrel.schedule.service import LOOK_SECONDS, Schedule
from carrel.schedule.times import At, Cron, Every
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_snapshot, make_tenant

WAIT = 60.0


class Rig:
    """A schedule whose agents answer with the job's message; ``fail`` fails, ``hold`` waits for the test."""

    def __init__(self, state: Path, tenant: Tenant) -> None:
        self.clock, self.directory, self.tenant, self.state = FakeClock(), Directory(), tenant, state
        self.directory.publish(make_snapshot(tenant))
        self.hub = Hub(clock=self.clock)
        self.told: list[str] = []
        self.said: list[str] = []
        self.hub.subscribe(tenant, Subscription(None, (), self._hear))
        self.held = asyncio.Event()
        self.news = asyncio.Event()
        self.lives: list[tuple[Schedule, Tasks]] = []

    def _hear(self, event: Event) -> None:
        self.told.append(event.kind)
        self.news.set()

    async def speak(self, tenant: Tenant, snapshot: Snapshot, job: Job, run: Run) -> str:
        self.said.append(f"{job.id} {tenant.member}")
        if job.message == "fail":
            raise Conflict("not now")
        if job.message == "cancel":
            raise TurnCancelled("cancelled")
        if job.message == "hold":
            await self.held.wait()
        return f"did {job.message}"

    def live(self) -> Schedule:
        tasks = Tasks("schedule")
        made = Schedule(
            state_dir=self.state,
            directory=self.directory,
            clock=self.clock,
            tasks=tasks,
            hub=self.hub,
            speak=self.speak,
        )
        tasks.start(made.run(), name="clock")
        self.lives.append((made, tasks))
        return made

    async def die(self) -> None:
        schedule, tasks = self.lives.pop()
        await tasks.close()
        await schedule.close()

    async def until(self, true: Callable[[], bool], *, step: float = 0.0) -> None:
        """Let things happen until ``true``; the clock moves by ``step`` again and again."""
        async with asyncio.timeout(WAIT):
            while not true():
                if step:
                    self.clock.advance(step)
                await asyncio.sleep(0.005)

    def job(self, name: str = "job", **more: Any) -> Job:
        now = self.clock.now()
        more.setdefault("schedule", Every(seconds=60, anchor=now))
        more.setdefault("message", "hello")
        return Job(id=name, name=name, created=now, updated=now, **more)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, make_tenant(tmp_path, members=(Member(name="ann"), Member(name="bob"))))
    yield made
    while made.lives:
        await made.die()


async def test_a_job_runs_when_it_is_due_and_is_told(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(rig.tenant, rig.job(), new=True)
    await rig.until(lambda: rig.told.count("cron.finished") >= 2, step=10)
    assert rig.told[:3] == ["cron.added", "cron.started", "cron.finished"]
    runs = await schedule.runs(rig.tenant, "job")
    assert {(run.status, run.text) for run in runs if run.status == "ok"} == {("ok", "did hello")}
    dues = sorted(run.due for run in runs)
    assert len(set(dues)) == len(dues)
    assert dues[1] - dues[0] == timedelta(seconds=60)


async def test_an_ending_that_the_disk_refuses_is_written_once_it_takes_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = rig.live()
    broken, real = [True], book.finish

    def finish(connection: apsw.Connection, run: Run) -> None:
        if broken[0]:
            raise StorageFailed("The disk fails.")
        real(connection, run)

    monkeypatch.setattr(book, "finish", finish)
    await schedule.put(rig.tenant, rig.job(), new=True)
    await rig.until(lambda: "cron.finished" in rig.told, step=10)
    [run] = await schedule.runs(rig.tenant, "job")
    assert run.status == "running"
    assert schedule.busy(rig.tenant) == {"job"}
    broken[0] = False
    await rig.until(lambda: not schedule.busy(rig.tenant), step=1)
    assert "ok" in {run.status for run in await schedule.runs(rig.tenant, "job")}
    await rig.until(lambda: rig.told.count("cron.finished") >= 2, step=10)


async def test_failures_and_cancellations_are_kept(rig: Rig) -> None:
    schedule = rig.live()
    for message, status in (("fail", "failed"), ("cancel", "cancelled")):
        await schedule.put(rig.tenant, rig.job(message, message=message), new=True)
        run = await schedule.run_now(rig.tenant, message, run_id=f"run_{message}", wait=True)
        assert run.status == status
        assert (await schedule.run_now(rig.tenant, message, run_id=f"run_{message}", wait=True)) == run


async def test_a_job_that_was_running_when_the_gateway_died_is_not_run_again(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(
        rig.tenant, rig.job(message="hold", schedule=At(at=rig.clock.now() + timedelta(seconds=5))), new=True
    )
    await rig.until(lambda: "cron.started" in rig.told, step=1)
    await rig.die()
    rig.clock.advance(3600)
    schedule = rig.live()
    await rig.until(lambda: rig.tenant.id in schedule._due)
    assert [run.status for run in await schedule.runs(rig.tenant, None)] == ["interrupted"]
    assert rig.said == ["job None"]


async def test_what_was_missed_while_no_gateway_ran_is_made_up_for_once(rig: Rig) -> None:
    await rig.live().put(rig.tenant, rig.job(), new=True)
    await rig.die()
    rig.clock.advance(3600)
    rig.live()
    await rig.until(lambda: "cron.finished" in rig.told)
    assert rig.said == ["job None"]


async def test_one_run_of_a_job_at_a_time(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(rig.tenant, rig.job(message="hold"), new=True)
    first = await schedule.run_now(rig.tenant, "job", run_id="run_1", wait=False)
    assert first.status == "running"
    assert schedule.busy(rig.tenant) == {"job"}
    with pytest.raises(Conflict):
        await schedule.run_now(rig.tenant, "job", run_id="run_2", wait=False)
    rig.held.set()
    assert (await schedule.run_now(rig.tenant, "job", run_id="run_1", wait=True)).status == "ok"


async def test_a_suspended_tenants_job_waits(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(rig.tenant, rig.job(), new=True)
    current = rig.directory.current
    rig.directory.publish(replace(current, tenants={rig.tenant.id: replace(rig.tenant, suspended=True)}))
    for _ in range(5):
        rig.clock.advance(LOOK_SECONDS)
        await asyncio.sleep(0.005)
    assert rig.said == []
    rig.directory.publish(current)
    await rig.until(lambda: "cron.finished" in rig.told, step=1)


async def test_a_job_for_once_may_go_after_its_run(rig: Rig) -> None:
    schedule = rig.live()
    at = At(at=rig.clock.now() + timedelta(seconds=5))
    await schedule.put(rig.tenant, rig.job(schedule=at, delete_after_run=True), new=True)
    await rig.until(lambda: "cron.finished" in rig.told, step=1)
    assert await schedule.list(rig.tenant) == []
    with pytest.raises(NotFound):
        await schedule.remove(rig.tenant, "job")


async def test_members_have_jobs_of_their_own(rig: Rig) -> None:
    config = rig.tenant.config.model_copy(update={"sandbox": SandboxConfig(scope="member")})
    rig.tenant = replace(rig.tenant, config=config)
    rig.directory.publish(make_snapshot(rig.tenant))
    schedule, ann, bob = rig.live(), rig.tenant.as_member("ann"), rig.tenant.as_member("bob")
    await schedule.put(ann, rig.job(member="ann"), new=True)
    assert await schedule.list(bob) == []
    for refused in (schedule.get(bob, "job"), schedule.runs(bob, "job")):
        with pytest.raises(NotFound):
            await refused
    await schedule.run_now(ann, "job", run_id="run_1", wait=True)
    assert rig.said == ["job ann"]
    assert rig.told == []


def declaring(rig: Rig, **jobs: DeclaredJob) -> None:
    rig.tenant = replace(rig.tenant, config=rig.tenant.config.model_copy(update={"cron": jobs}))
    rig.directory.publish(make_snapshot(rig.tenant))


async def test_declared_jobs_are_run_follow_the_declaration_and_are_not_changed_here(rig: Rig) -> None:
    declaring(rig, digest=DeclaredJob(message="sum up", every_seconds=60))
    schedule = rig.live()
    await rig.until(lambda: "cron.finished" in rig.told, step=10)
    assert rig.said[0] == "declared-digest None"
    (kept,) = await schedule.list(rig.tenant)
    assert (kept.job.name, kept.job.declared) == ("digest", True)
    with pytest.raises(Conflict, match=r"acme\.yaml"):
        await schedule.remove(rig.tenant, kept.job.id)
    with pytest.raises(Conflict, match=r"acme\.yaml"):
        await schedule.put(rig.tenant, kept.job, new=False)
    assert (await schedule.run_now(rig.tenant, kept.job.id, run_id="run_1", wait=True)).status == "ok"

    declaring(rig, other=DeclaredJob(message="other", every_seconds=60))
    rig.told.clear()
    await schedule.follow(None)
    await rig.until(lambda: {"cron.added", "cron.removed"} <= set(rig.told))
    assert [one.job.name for one in await schedule.list(rig.tenant)] == ["other"]
    declaring(rig)
    assert await schedule.list(rig.tenant) == []


async def test_what_was_missed_of_a_declared_job_is_made_up_for_and_not_run_twice(rig: Rig) -> None:
    declaring(rig, digest=DeclaredJob(message="sum up", every_seconds=600))
    rig.live()
    await rig.until(lambda: "cron.finished" in rig.told, step=60)
    await rig.die()
    rig.clock.advance(6000)
    count = len(rig.said)
    rig.live()
    await rig.until(lambda: len(rig.said) == count + 1)


async def test_a_tenant_that_was_restored_has_the_jobs_of_its_new_directory(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(rig.tenant, rig.job(), new=True)
    place = rig.state / "tenants" / rig.tenant.id
    place.rename(place.with_name("before"))
    rig.tenant = make_tenant(rig.state, rig.tenant.id)
    rig.directory.publish(make_snapshot(rig.tenant))
    rig.hub.subscribe(rig.tenant, Subscription(None, (), rig._hear))
    await schedule.put(rig.tenant, rig.job("other", message="other"), new=True)
    rig.told.clear()
    await rig.until(lambda: "cron.finished" in rig.told, step=10)
    assert [one.job.id for one in await schedule.list(rig.tenant)] == ["other"]
    assert "job None" not in rig.said


async def test_a_time_that_passes_while_the_order_is_on_its_way_is_due_at_once(rig: Rig) -> None:
    schedule = rig.live()
    job = rig.job(schedule=At(at=rig.clock.now() + timedelta(seconds=1)))
    rig.clock.advance(2)
    kept = await schedule.put(rig.tenant, job, new=True)
    assert kept.due == job.updated + timedelta(seconds=1)
    await rig.until(lambda: "cron.finished" in rig.told)
    assert [run.due for run in await schedule.runs(rig.tenant, "job")] == [kept.due]


async def test_a_clock_that_was_ahead_does_not_put_jobs_off(rig: Rig) -> None:
    schedule = rig.live()
    await schedule.put(rig.tenant, rig.job(schedule=Cron(expr="* * * * *")), new=True)
    began = rig.clock.now()
    rig.clock.jump(400 * 86_400)
    await rig.until(lambda: rig.told.count("cron.finished") == 1, step=10)
    rig.clock.jump((began - rig.clock.now()).total_seconds())
    await rig.until(lambda: rig.told.count("cron.finished") >= 3, step=10)
    dues = sorted(run.due for run in await schedule.runs(rig.tenant, "job"))
    assert len(dues) == len(set(dues))
    # The first minute was made up for while the clock was ahead, and is not run for again.
    assert dues[:2] == [began + timedelta(minutes=1), began + timedelta(minutes=2)]


async def test_a_clock_that_was_ahead_until_the_last_gateway_ended_does_not_either(rig: Rig) -> None:
    schedule, began = rig.live(), rig.clock.now()
    rig.clock.jump(400 * 86_400)
    await schedule.put(rig.tenant, rig.job(schedule=Cron(expr="* * * * *")), new=True)
    await rig.die()
    rig.clock.jump((began - rig.clock.now()).total_seconds())
    rig.live()
    await rig.until(lambda: "cron.finished" in rig.told, step=10)
    assert rig.clock.now() < began + timedelta(minutes=10)
