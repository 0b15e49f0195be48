"""The jobs and the runs of one tenant, in its own database.

A run is written down before it is begun, one for each time a job is due: what a dead gateway had begun is not begun
again, and is told as interrupted.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import apsw
from pydantic import BaseModel, ConfigDict, Field

from carrel.errors import Conflict, NotFound
from carrel.schedule.times import Schedule, next_after
from carrel.store.sqlite import transaction

MOST_JOBS: Final = 200
KEPT_RUNS: Final = 200
DECLARED: Final = "declared-"
"""What ids of declared jobs begin with: their names follow."""
LATE: Final = timedelta(seconds=60)
"""A time that is past longer than this was missed."""

Status = Literal["running", "ok", "failed", "skipped", "interrupted", "cancelled"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Job(BaseModel):
    """One job. ``session`` is kept from run to run where it is named, else each run has a new one.

    ``catch_up``: what becomes of times that were missed, one run for all of them or none. ``declared``: it is in the
    tenant's YAML, and changes with it alone.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, cache_strings="keys")

    id: str
    name: Annotated[str, Field(max_length=200)]
    schedule: Schedule
    description: Annotated[str, Field(max_length=1000)] = ""
    message: Annotated[str, Field(min_length=1, max_length=100_000)]
    agent: str | None = None
    member: str | None = None
    session: str | None = None
    enabled: bool = True
    catch_up: Literal["once", "skip"] = "once"
    delete_after_run: bool = False
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3600
    declared: bool = False
    created: datetime
    updated: datetime


class Kept(BaseModel):
    """A job with when it is due next."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    job: Job
    due: datetime | None


class Run(BaseModel):
    """One run. ``due`` is the time that it is for; ``text`` the agent's answer, or why there is none."""

    model_config = ConfigDict(frozen=True, defer_build=True, cache_strings="keys")

    id: str
    job: str
    due: datetime
    began: datetime
    ended: datetime | None = None
    status: Status
    session: str | None = None
    text: str = ""


def upgrade(connection: apsw.Connection) -> None:
    """The schema."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, body TEXT NOT NULL, due INTEGER) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, job TEXT NOT NULL, due INTEGER NOT NULL, "
        "status TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (job, due)) WITHOUT ROWID"
    )


def jobs(connection: apsw.Connection) -> list[Kept]:
    """All jobs by id."""
    rows = connection.execute("SELECT body, due FROM jobs ORDER BY id").fetchall()
    return [Kept(job=Job.model_validate_json(str(body)), due=_moment(due)) for body, due in rows]


def job(connection: apsw.Connection, job_id: str) -> Kept:
    """One job; raises NotFound."""
    row = connection.execute("SELECT body, due FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise NotFound("There is no such job; cron.list tells what there is.")
    return Kept(job=Job.model_validate_json(str(row[0])), due=_moment(row[1]))


def put(connection: apsw.Connection, job: Job, *, now: datetime, new: bool) -> Kept:
    """Keep ``job``, due from now on; raises Conflict where there are too many, InvalidRequest for its times."""
    due = next_after(job.schedule, now) if job.enabled else None
    with transaction(connection):
        if new and _count(connection) >= MOST_JOBS:
            raise Conflict(f"A tenant has at most {MOST_JOBS} jobs: remove one first.")
        connection.execute(
            "INSERT INTO jobs VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body, due = excluded.due",
            (job.id, job.model_dump_json(), _micros(due)),
        )
    return Kept(job=job, due=due)


def declare(connection: apsw.Connection, wanted: Sequence[Job], *, now: datetime) -> Sequence[tuple[str, Job]]:
    """Let the declared jobs be ``wanted``; which were `added`, `updated` and `removed`.

    One whose times are as they were keeps when it is due, and one that was missed meanwhile stays missed.
    """
    there = {kept.job.id: kept for kept in jobs(connection) if kept.job.declared}
    done: list[tuple[str, Job]] = []
    with transaction(connection):
        for one in wanted:
            before = there.pop(one.id, None)
            if before is not None and _same(before.job, one):
                continue
            timed = before is not None and (before.job.schedule, before.job.enabled) == (one.schedule, one.enabled)
            due = before.due if before is not None and timed else next_after(one.schedule, now)
            created = one if before is None else one.model_copy(update={"created": before.job.created})
            connection.execute(
                "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)",
                (one.id, created.model_dump_json(), _micros(due if one.enabled else None)),
            )
            done.append(("added" if before is None else "updated", created))
        for gone in there.values():
            _delete(connection, gone.job.id)
            done.append(("removed", gone.job))
    return done


def remove(connection: apsw.Connection, job_id: str) -> None:
    """Remove a job with its runs."""
    with transaction(connection):
        _delete(connection, job_id)


def next_due(connection: apsw.Connection) -> datetime | None:
    """When the next job is due."""
    return _moment(connection.execute("SELECT min(due) FROM jobs").fetchall()[0][0])


def set_back(connection: apsw.Connection, *, now: datetime) -> None:
    """Let no job wait for longer than its times say: a clock that was ahead had put it off to a time that is far now.

    What ran already for a time does not run for it once more. What was skipped for a time that is to come did not run.
    """
    with transaction(connection):
        connection.execute("DELETE FROM runs WHERE status = 'skipped' AND due > ?", (_micros(now),))
        rows = connection.execute("SELECT id, body, due FROM jobs WHERE due > ?", (_micros(now),)).fetchall()
        for job_id, body, due in rows:
            following = next_after(Job.model_validate_json(str(body)).schedule, now)
            if following is not None and following < (_moment(due) or now):
                connection.execute("UPDATE jobs SET due = ? WHERE id = ?", (_micros(following), job_id))


def claim(
    connection: apsw.Connection, *, now: datetime, new_id: Callable[[], str], busy: frozenset[str]
) -> list[tuple[Job, Run]]:
    """Write down a run for each job that is due, and when the job is due again; the runs to begin.

    A job of ``busy`` still runs: this time is skipped.
    """
    begun: list[tuple[Job, Run]] = []
    with transaction(connection):
        rows = connection.execute("SELECT body, due FROM jobs WHERE due <= ? ORDER BY due", (_micros(now),)).fetchall()
        for body, due in rows:
            one = Job.model_validate_json(str(body))
            run = _run_of(one, _moment(due) or now, now, new_id(), busy=one.id in busy)
            following = next_after(one.schedule, now)
            connection.execute("UPDATE jobs SET due = ? WHERE id = ?", (_micros(following), one.id))
            if _write(connection, run) and run.status == "running":
                begun.append((one, run))
    return begun


def begin(connection: apsw.Connection, job: Job, *, now: datetime, run_id: str) -> tuple[Run, bool]:
    """Write down a run that was asked for, and whether it is new; the one that was begun under that id before."""
    run = Run(id=run_id, job=job.id, due=now, began=now, status="running")
    with transaction(connection):
        row = connection.execute("SELECT body FROM runs WHERE id = ?", (run_id,)).fetchone()
        if row is not None:
            return Run.model_validate_json(str(row[0])), False
        return run, _write(connection, run)


def finish(connection: apsw.Connection, run: Run) -> None:
    """Write down how a run ended."""
    with transaction(connection):
        connection.execute(
            "UPDATE runs SET status = ?, body = ? WHERE id = ?", (run.status, run.model_dump_json(), run.id)
        )
        connection.execute(
            "DELETE FROM runs WHERE job = ? AND status != 'running' AND due < (SELECT min(due) FROM (SELECT due FROM "
            "runs WHERE job = ? ORDER BY due DESC LIMIT ?))",
            (run.job, run.job, KEPT_RUNS),
        )


def runs(connection: apsw.Connection, job_id: str | None) -> list[Run]:
    """The runs of a job, or of all, in no order."""
    rows = connection.execute("SELECT body FROM runs WHERE ? IS NULL OR job = ?", (job_id, job_id)).fetchall()
    return [Run.model_validate_json(str(body)) for (body,) in rows]


def interrupt(connection: apsw.Connection, alive: frozenset[str], *, now: datetime) -> Sequence[Run]:
    """Tell runs that nobody runs any more as interrupted."""
    rows = connection.execute("SELECT body FROM runs WHERE status = 'running'").fetchall()
    dead = [run for (body,) in rows if (run := Run.model_validate_json(str(body))).id not in alive]
    for run in dead:
        told = "The gateway ended while this ran; it is not run again for this time."
        finish(connection, run.model_copy(update={"status": "interrupted", "ended": now, "text": told}))
    return dead


def _run_of(job: Job, due: datetime, now: datetime, run_id: str, *, busy: bool) -> Run:
    run = Run(id=run_id, job=job.id, due=due, began=now, status="running")
    if busy:
        return run.model_copy(update={"status": "skipped", "ended": now, "text": "The run before still went on."})
    if job.catch_up == "skip" and now - due > LATE:
        return run.model_copy(update={"status": "skipped", "ended": now, "text": "The time was missed."})
    return run


def _write(connection: apsw.Connection, run: Run) -> bool:
    """Whether the run was not written down before."""
    connection.execute(
        "INSERT INTO runs VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (run.id, run.job, _micros(run.due), run.status, run.model_dump_json()),
    )
    return connection.changes() == 1


def _delete(connection: apsw.Connection, job_id: str) -> None:
    connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
    connection.execute("DELETE FROM runs WHERE job = ?", (job_id,))


def _same(one: Job, other: Job) -> bool:
    return one == other.model_copy(update={"created": one.created, "updated": one.updated})


def _count(connection: apsw.Connection) -> int:
    """How many there are beside the declared ones."""
    rows = connection.execute("SELECT count(*) FROM jobs WHERE id NOT GLOB ?", (f"{DECLARED}*",)).fetchall()
    return int(rows[0][0] or 0)


def _micros(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: Any) -> datetime | None:
    return None if micros is None else _EPOCH + timedelta(microseconds=int(micros))
