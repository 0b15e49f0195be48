"""A job as a tenant's YAML declares it, made one of the schedule's. Pure."""

import zlib
from datetime import UTC, datetime, timedelta
from typing import Final

from carrel.declare.jobs import DeclaredJob
from carrel.ids import TenantId
from carrel.schedule.book import DECLARED, Job
from carrel.schedule.times import At, Cron, Every

_ANCHOR: Final = datetime(2026, 1, 1, tzinfo=UTC)


def declared_job(tenant: TenantId, name: str, job: DeclaredJob, now: datetime) -> Job:
    """The job called ``name``; equal declarations give equal jobs on every host, but for when they were made."""
    return Job(
        id=f"{DECLARED}{name}", name=name, schedule=_schedule(tenant, name, job), message=job.message, agent=job.agent,
        member=job.member, session=job.session, enabled=job.enabled, catch_up=job.catch_up,
        timeout_seconds=job.timeout_seconds, declared=True, created=now, updated=now,
    )  # fmt: skip


def _schedule(tenant: TenantId, name: str, job: DeclaredJob) -> At | Every | Cron:
    if job.cron is not None:
        return Cron(expr=job.cron, tz=job.tz)
    if job.at is not None:
        return At(at=job.at)
    seconds = job.every_seconds or 0
    # Jobs that many tenants declare alike are not due in one moment.
    shift = zlib.crc32(f"{tenant}/{name}".encode()) % seconds
    return Every(seconds=seconds, anchor=_ANCHOR + timedelta(seconds=shift))
