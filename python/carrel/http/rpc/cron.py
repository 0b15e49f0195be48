"""`cron.*`: jobs that are run when their time comes."""

from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from carrel.errors import Conflict, InvalidRequest, NotFound
from carrel.http.rpc.paging import paged
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.ids import parse_session_id
from carrel.policy.names import require_agent
from carrel.schedule.book import Job, Kept, Run
from carrel.schedule.service import Schedule as Service
from carrel.schedule.times import At, Cron, Every, Schedule, next_after
from carrel.wire import rpc_cron as wire

_SCHEDULE: TypeAdapter[At | Every | Cron] = TypeAdapter(Schedule)


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("cron.list")(list_)
    registry.method("cron.add", changes=True, target="name")(add)
    registry.method("cron.update", changes=True, target="job_id")(update)
    registry.method("cron.remove", changes=True, target="job_id")(remove)
    registry.method("cron.status")(status)
    registry.method("cron.runs")(runs)
    registry.method("cron.run", changes=True, target="job_id")(run)


async def list_(context: Context, params: wire.CronListParams) -> wire.CronJobs:
    """The tenant's jobs by name."""
    found = [one for one in await _schedule(context).list(context.tenant) if params.include_disabled or one.job.enabled]
    page, following = paged(found, lambda one: (one.job.name, one.job.id), params)
    return wire.CronJobs(jobs=tuple(_job(context, one) for one in page), next=following)


async def add(context: Context, params: wire.CronAddParams) -> wire.CronJob:
    """Keep a job."""
    now, job_id = context.services.clock.now(), context.new_id("job")
    if context.again:
        try:
            return _job(context, await _schedule(context).get(context.tenant, job_id))
        except NotFound:
            pass
    _judge(context, params.agent_id, params.session_id)
    job = Job(
        id=job_id, name=params.name, description=params.description, message=params.message,
        schedule=_schedule_of(params.schedule, now),
        agent=params.agent_id, member=context.tenant.member, session=params.session_id, enabled=params.enabled,
        catch_up=params.catch_up, delete_after_run=params.delete_after_run, timeout_seconds=params.timeout_seconds,
        created=now, updated=now,
    )  # fmt: skip
    if job.enabled and next_after(job.schedule, now) is None:
        # Before it is kept: a gateway that dies between two steps would leave a job that never runs.
        raise InvalidRequest("That time is past, or never comes.", param="schedule")
    return _job(context, await _schedule(context).put(context.tenant, job, new=True))


async def update(context: Context, params: wire.CronUpdateParams) -> wire.CronJob:
    """Change a job; only what is sent is changed."""
    kept, now = await _schedule(context).get(context.tenant, params.job_id), context.services.clock.now()
    _judge(context, params.agent_id, params.session_id)
    names = {"agent_id": "agent", "session_id": "session"}
    changes: dict[str, Any] = {
        names.get(name, name): getattr(params, name)
        for name in params.model_fields_set - {"job_id", "schedule"}
        if getattr(params, name) is not None or name in names
    }
    if params.schedule is not None:
        changes["schedule"] = _schedule_of(params.schedule, now)
    job = kept.job.model_copy(update={**changes, "updated": now})
    return _job(context, await _schedule(context).put(context.tenant, job, new=False))


async def remove(context: Context, params: wire.CronJobParams) -> wire.CronRemoved:
    """Remove a job with its history."""
    try:
        await _schedule(context).remove(context.tenant, params.job_id)
    except NotFound:
        if not context.again:
            raise
    return wire.CronRemoved(ok=True, job_id=params.job_id)


async def status(context: Context, params: wire.CronListParams) -> wire.CronStatus:
    """How many jobs there are, which run, and when the next is due."""
    found = await _schedule(context).list(context.tenant)
    busy = _schedule(context).busy(context.tenant)
    dues = [one.due for one in found if one.due is not None]
    return wire.CronStatus(
        enabled=True, jobs=len(found), running=tuple(sorted(one.job.id for one in found if one.job.id in busy)),
        next_run_at=_millis(min(dues)) if dues else None,
    )  # fmt: skip


async def runs(context: Context, params: wire.CronRunsParams) -> wire.CronRuns:
    """The runs of a job or of all, newest first."""
    found = await _schedule(context).runs(context.tenant, params.job_id)
    page, following = paged(found, lambda one: (f"{_millis(one.began):015d}", one.id), params, newest_first=True)
    return wire.CronRuns(runs=tuple(map(_run, page)), next=following)


async def run(context: Context, params: wire.CronRunParams) -> wire.CronRanNow:
    """Run a job now."""
    schedule, tenant, run_id = _schedule(context), context.tenant, context.new_id("run")
    kept = await schedule.get(tenant, params.job_id)
    if params.mode == "due" and (kept.due is None or kept.due > context.services.clock.now()) and not context.again:
        return wire.CronRanNow(ran=False, reason="not-due", job_id=params.job_id)
    try:
        begun = await schedule.run_now(tenant, params.job_id, run_id=run_id, wait=params.wait)
    except Conflict:
        if params.mode is None:
            raise
        return wire.CronRanNow(ran=False, reason="already-running", job_id=params.job_id)
    return wire.CronRanNow.model_validate({"ran": True, **_run(begun).model_dump()})


def _schedule(context: Context) -> Service:
    return engines(context).schedule


def _judge(context: Context, agent: str | None, session: str | None) -> None:
    require_agent(context.tenant, agent)
    if session is not None:
        parse_session_id(session)


def _schedule_of(given: wire.CronSchedule, now: datetime) -> At | Every | Cron:
    ways: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        "at": ({"at": given.at}, ("at",)),
        "every": ({"seconds": given.every_seconds, "anchor": given.anchor or now}, ("every_seconds", "anchor")),
        "cron": ({"expr": given.expr, "tz": given.tz or "UTC"}, ("expr", "tz")),
    }
    fields, named = ways[given.kind]
    for name in given.model_fields_set - {"kind", *named}:
        if getattr(given, name) is not None:
            raise InvalidRequest(f"A schedule of the kind {given.kind!r} takes no {name!r}.", param="schedule")
    try:
        return _SCHEDULE.validate_python({"kind": given.kind, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(
            f"`schedule.{first['loc'][-1]}` of the kind {given.kind!r}: {first['msg']}.", param="schedule"
        ) from None


def _job(context: Context, kept: Kept) -> wire.CronJob:
    job = kept.job
    return wire.CronJob(
        job_id=job.id, name=job.name, description=job.description, schedule=_shown(job.schedule),
        message=job.message, agent_id=job.agent,
        session_id=job.session, member=job.member, enabled=job.enabled, catch_up=job.catch_up,
        delete_after_run=job.delete_after_run, timeout_seconds=job.timeout_seconds, declared=job.declared,
        created_at=_millis(job.created), updated_at=_millis(job.updated),
        next_run_at=None if kept.due is None else _millis(kept.due),
        running=job.id in _schedule(context).busy(context.tenant),
    )  # fmt: skip


def _shown(schedule: At | Every | Cron) -> wire.CronWhen:
    match schedule:
        case At(at=at):
            return wire.CronWhen(kind="at", at=at.isoformat())
        case Every(seconds=seconds, anchor=anchor):
            return wire.CronWhen(kind="every", every_seconds=seconds, anchor=anchor.isoformat())
        case Cron(expr=expr, tz=tz):
            return wire.CronWhen(kind="cron", expr=expr, tz=tz)


def _run(run: Run) -> wire.CronRun:
    return wire.CronRun(
        run_id=run.id, job_id=run.job, due_at=_millis(run.due), began_at=_millis(run.began),
        ended_at=None if run.ended is None else _millis(run.ended), status=run.status, session_id=run.session,
        text=run.text,
    )  # fmt: skip


def _millis(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
