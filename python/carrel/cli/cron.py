"""`carrel cron`: jobs that are run when their time comes."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import understand
from carrel.cli.failures import DONE, FAILED, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.packages import TenantOption
from carrel.cli.rpc import called, called_whole
from carrel.wire import rpc_cron as wire

_ONE_WAY: Final = "Say when by one of --at, --every and --cron; --tz belongs to --cron."
At = Annotated[str | None, Parameter(help="Once, at this time with its offset.")]
Every = Annotated[int | None, Parameter(help="Every so many seconds.")]
Cron = Annotated[str | None, Parameter(help="By a cron expression of five fields.")]
Tz = Annotated[str | None, Parameter(help="The time zone of --cron, as Europe/Vienna.")]
JobArgument = Annotated[str, Parameter(name="JOB", help="Its id, as `carrel cron list` shows it.")]


def list_(*, tenant: TenantOption, target: Target = HERE) -> int:
    """List a tenant's jobs, and when each is due next."""
    document = called_whole(target, tenant, "cron.list", "jobs")
    if target.json:
        screen.show_json(document)
        return DONE
    jobs = understand(wire.CronJobs, document).jobs
    if not jobs:
        screen.note(f"{tenant} has no job.")
        return DONE
    rows = [
        (
            job.job_id,
            job.name,
            _when(job.schedule),
            _moment(job.next_run_at),
            "yes" if job.running else None,
            "yes" if job.declared else None,
        )
        for job in jobs
    ]
    screen.table(("JOB", "NAME", "WHEN", "NEXT", "RUNNING", "DECLARED"), rows)
    return DONE


def add(
    name: Annotated[str, Parameter(name="NAME", help="What the job is called.")],
    message: Annotated[str, Parameter(name="MESSAGE", help="What is said to the agent.")],
    /,
    *,
    tenant: TenantOption,
    at: At = None,
    every: Every = None,
    cron: Cron = None,
    tz: Tz = None,
    agent: Annotated[str | None, Parameter(help="The agent; the default one without it.")] = None,
    target: Target = HERE,
) -> int:
    """Keep a job for a tenant, in force at once."""
    schedule = _schedule(at, every, cron, tz)
    if schedule is None:
        raise WrongUsage(_ONE_WAY)
    params: dict[str, Any] = {"name": name, "message": message, "schedule": schedule}
    if agent is not None:
        params["agentId"] = agent
    return _shown(called(target, tenant, "cron.add", params), target)


def update(
    job: JobArgument,
    /,
    *,
    tenant: TenantOption,
    name: Annotated[str | None, Parameter(help="What the job is called.")] = None,
    message: Annotated[str | None, Parameter(help="What is said to the agent.")] = None,
    at: At = None,
    every: Every = None,
    cron: Cron = None,
    tz: Tz = None,
    agent: Annotated[str | None, Parameter(help="The agent.")] = None,
    enable: Annotated[
        bool | None, Parameter(negative="--disable", show_default=False, help="Turn it on or off.")
    ] = None,
    target: Target = HERE,
) -> int:
    """Change a job. What is left out stays as it is."""
    given = {"name": name, "message": message, "schedule": _schedule(at, every, cron, tz), "agentId": agent,
             "enabled": enable}  # fmt: skip
    params = {key: value for key, value in given.items() if value is not None}
    if not params:
        raise WrongUsage("Say what is to be changed, as --message or --disable.")
    return _shown(called(target, tenant, "cron.update", {"jobId": job, **params}), target)


def _schedule(at: str | None, every: int | None, cron: str | None, tz: str | None) -> dict[str, Any] | None:
    """When, of what the words say; None where they say nothing. Raises WrongUsage."""
    ways: dict[str, dict[str, Any]] = {}
    if at is not None:
        ways["at"] = {"at": at}
    if every is not None:
        ways["every"] = {"everySeconds": every}
    if cron is not None:
        ways["cron"] = {"expr": cron, **({} if tz is None else {"tz": tz})}
    if len(ways) > 1 or (tz is not None and cron is None):
        raise WrongUsage(_ONE_WAY)
    return next(({"kind": kind, **fields} for kind, fields in ways.items()), None)


def _shown(document: object, target: Target) -> int:
    if target.json:
        screen.show_json(document)
        return DONE
    job = understand(wire.CronJob, document)
    off = "" if job.enabled else " It is turned off."
    screen.say(f"{job.job_id}: {_when(job.schedule)}, next {_moment(job.next_run_at)}.{off}")
    return DONE


def remove(job: JobArgument, /, *, tenant: TenantOption, target: Target = HERE) -> int:
    """Remove a job with its history."""
    document = called(target, tenant, "cron.remove", {"jobId": job})
    if target.json:
        screen.show_json(document)
    else:
        screen.say(f"{job} is gone.")
    return DONE


def run(job: JobArgument, /, *, tenant: TenantOption, target: Target = HERE) -> int:
    """Run a job now, wait for its end and show what came of it."""
    document = called(target, tenant, "cron.run", {"jobId": job, "wait": True})
    done = understand(wire.CronRun, document)
    if target.json:
        screen.show_json(document)
    else:
        screen.say(done.text)
        screen.note(f"{done.status}, in the session {done.session_id}.")
    return DONE if done.status == "ok" else FAILED


def runs(
    job: Annotated[str | None, Parameter(name="JOB", help="Its id; all jobs without one.")] = None,
    /,
    *,
    tenant: TenantOption,
    limit: Annotated[int, Parameter(help="How many to show.")] = 20,
    target: Target = HERE,
) -> int:
    """List the runs of a job, newest first."""
    params: dict[str, Any] = {"limit": max(1, min(limit, 1000)), **({} if job is None else {"jobId": job})}
    document = called(target, tenant, "cron.runs", params)
    if target.json:
        screen.show_json(document)
        return DONE
    rows = [
        (_moment(one.began_at), one.job_id, one.status, one.session_id, screen.one_line(one.text)[:60])
        for one in understand(wire.CronRuns, document).runs
    ]
    screen.table(("BEGAN", "JOB", "STATUS", "SESSION", "TEXT"), rows)
    return DONE


def _when(schedule: wire.CronWhen) -> str:
    match schedule.kind:
        case "at":
            return f"at {schedule.at}"
        case "every":
            return f"every {schedule.every_seconds} s"
        case "cron":
            return f"{schedule.expr} ({schedule.tz})"


def _moment(millis: int | None) -> str | None:
    return None if millis is None else datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="seconds")
