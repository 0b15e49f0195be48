"""What runs for tenants: one at a time for each, counted where it fails, stopped where its caller goes."""

import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from carrel.backup.jobs import Jobs, in_thread
from carrel.backup.metrics import BackupMetrics
from carrel.clock import SystemClock
from carrel.errors import Conflict, NotFound
from carrel.ids import TenantId
from carrel.objects.pace import Cancelled, Pace

ACME, ZETA = TenantId("acme"), TenantId("zeta")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def jobs(registry: CollectorRegistry) -> Jobs:
    return Jobs(BackupMetrics(registry, SystemClock()), rate=lambda: None)


async def test_one_at_a_time_for_each_tenant(jobs: Jobs) -> None:
    async with jobs.hold(ACME) as job:
        assert jobs.running(ACME) is job.progress
        with pytest.raises(Conflict, match="runs already"):
            async with jobs.hold(ACME):
                pass
        async with jobs.hold(ZETA):
            jobs.close()
        with pytest.raises(Cancelled):
            job.pace.check()
    assert jobs.running(ACME) is None
    async with jobs.hold(ACME) as job:
        job.pace.check()


async def test_one_is_stopped_by_its_tenant(jobs: Jobs) -> None:
    async with jobs.hold(ACME) as job, jobs.hold(ZETA) as other:
        jobs.stop(ACME)
        with pytest.raises(Cancelled):
            job.pace.check()
        other.pace.check()
    with pytest.raises(NotFound):
        jobs.stop(ACME)


def test_what_fails_is_counted_by_its_code(jobs: Jobs, registry: CollectorRegistry) -> None:
    with pytest.raises(Conflict), jobs.counted(ACME, "export"):
        raise Conflict("x")
    with jobs.counted(ACME, "export"):
        pass
    labels = {"tenant": "acme", "what": "export", "code": "conflict"}
    assert registry.get_sample_value("carrel_backup_failures_total", labels) == 1


async def test_a_thread_ends_before_its_cancelled_caller_does() -> None:
    pace, began, ended = Pace(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        try:
            while True:
                pace.sleep(0.01)
        finally:
            ended.set()

    going = asyncio.ensure_future(in_thread(work, pace))
    while not began.is_set():
        await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert ended.is_set()
    assert await in_thread(lambda: 5, Pace()) == 5
