"""Jobs of the YAML as the schedule has them."""

from datetime import UTC, datetime
from typing import Any

from carrel.declare.jobs import DeclaredJob
from carrel.ids import TenantId
from carrel.schedule.declared import declared_job
from carrel.schedule.times import At, Cron, Every

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def made(tenant: str = "acme", **job: Any) -> Any:
    return declared_job(TenantId(tenant), "digest", DeclaredJob(message="x", **job), NOW)


def test_each_way_to_say_when() -> None:
    assert made(cron="0 9 * * *", tz="Europe/Vienna").schedule == Cron(expr="0 9 * * *", tz="Europe/Vienna")
    assert made(at=NOW).schedule == At(at=NOW)
    assert isinstance(made(every_seconds=60).schedule, Every)


def test_equal_declarations_are_equal_jobs_and_tenants_do_not_start_together() -> None:
    assert made(every_seconds=3600) == made(every_seconds=3600)
    assert made(every_seconds=3600).schedule != made("bravo", every_seconds=3600).schedule
    job = made(every_seconds=60, agent="reader", session="s", member="ann", enabled=False, timeout_seconds=5)
    assert (job.id, job.declared, job.agent, job.session, job.member) == ("declared-digest", True, "reader", "s", "ann")
    assert (job.enabled, job.timeout_seconds) == (False, 5)
