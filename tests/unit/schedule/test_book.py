"""Jobs and runs of one tenant."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from carrel.errors import Conflict, NotFound
from carrel.schedule import book
from carrel.schedule.book import Job
from carrel.schedule.times import At, Every
from carrel.store.sqlite import open_database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NUMBERS = itertools.count()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_database(tmp_path / "cron.sqlite", schema=book.upgrade)
    yield connection
    connection.close()


def job(name: str = "job", **more: Any) -> Job:
    more.setdefault("schedule", Every(seconds=60, anchor=NOW))
    return Job(id=name, name=name, message="hello", created=NOW, updated=NOW, **more)


def claimed(connection: apsw.Connection, now: datetime, *busy: str) -> list[str]:
    made = book.claim(connection, now=now, new_id=lambda: f"run_{next(NUMBERS)}", busy=frozenset(busy))
    return [one.id for one, _ in made]


def statuses(connection: apsw.Connection) -> list[str]:
    return sorted(run.status for run in book.runs(connection, None))


def test_a_job_is_claimed_once_for_each_time(database: apsw.Connection) -> None:
    book.put(database, job(), now=NOW, new=True)
    assert book.next_due(database) == NOW + timedelta(seconds=60)
    assert claimed(database, NOW) == []
    late = NOW + timedelta(seconds=61)
    assert claimed(database, late) == ["job"]
    assert claimed(database, late) == []
    assert book.next_due(database) == NOW + timedelta(seconds=120)


def test_missed_times_are_one_run_or_none(database: apsw.Connection) -> None:
    book.put(database, job("once"), now=NOW, new=True)
    book.put(database, job("skip", catch_up="skip"), now=NOW, new=True)
    assert claimed(database, NOW + timedelta(hours=5)) == ["once"]
    assert statuses(database) == ["running", "skipped"]


def test_what_a_clock_that_was_ahead_skipped_runs_when_its_time_comes(database: apsw.Connection) -> None:
    book.put(database, job("skip", catch_up="skip"), now=NOW, new=True)
    assert claimed(database, NOW + timedelta(hours=5)) == []
    book.set_back(database, now=NOW)
    assert book.next_due(database) == NOW + timedelta(seconds=60)
    assert claimed(database, NOW + timedelta(seconds=61)) == ["skip"]
    assert statuses(database) == ["running"]


def test_what_was_missed_stays_missed(database: apsw.Connection) -> None:
    book.put(database, job("skip", catch_up="skip"), now=NOW, new=True)
    assert claimed(database, NOW + timedelta(hours=5)) == []
    book.set_back(database, now=NOW + timedelta(hours=5))
    assert statuses(database) == ["skipped"]


def test_a_job_that_still_runs_is_skipped(database: apsw.Connection) -> None:
    book.put(database, job(), now=NOW, new=True)
    assert claimed(database, NOW + timedelta(seconds=61), "job") == []
    assert statuses(database) == ["skipped"]


def test_what_a_dead_gateway_began_is_told_and_not_done_again(database: apsw.Connection) -> None:
    book.put(database, job(schedule=At(at=NOW)), now=NOW - timedelta(seconds=1), new=True)
    assert claimed(database, NOW) == ["job"]
    (dead,) = book.interrupt(database, frozenset(), now=NOW)
    assert claimed(database, NOW + timedelta(days=1)) == []
    assert statuses(database) == ["interrupted"]
    assert book.interrupt(database, frozenset(), now=NOW) == []
    assert dead.job == "job"


def test_a_run_that_is_alive_is_left_alone(database: apsw.Connection) -> None:
    book.put(database, job(), now=NOW, new=True)
    run, new = book.begin(database, job(), now=NOW, run_id="run_x")
    assert new
    assert book.begin(database, job(), now=NOW + timedelta(seconds=1), run_id="run_x") == (run, False)
    assert book.interrupt(database, frozenset({"run_x"}), now=NOW) == []


def test_a_job_that_is_off_is_never_due(database: apsw.Connection) -> None:
    book.put(database, job(enabled=False), now=NOW, new=True)
    assert book.next_due(database) is None
    book.put(database, job(), now=NOW, new=False)
    assert book.next_due(database) is not None


def test_history_is_bounded_and_goes_with_its_job(database: apsw.Connection) -> None:
    book.put(database, job(), now=NOW, new=True)
    for number in range(book.KEPT_RUNS + 5):
        run, _ = book.begin(database, job(), now=NOW + timedelta(seconds=number), run_id=f"run_h{number}")
        book.finish(database, run.model_copy(update={"status": "ok"}))
    assert len(book.runs(database, "job")) == book.KEPT_RUNS
    book.remove(database, "job")
    assert book.runs(database, None) == []
    with pytest.raises(NotFound):
        book.job(database, "job")


def test_jobs_of_a_tenant_are_bounded(database: apsw.Connection) -> None:
    for number in range(book.MOST_JOBS):
        book.put(database, job(f"job{number}"), now=NOW, new=True)
    with pytest.raises(Conflict):
        book.put(database, job("one-more"), now=NOW, new=True)
    assert len(book.jobs(database)) == book.MOST_JOBS


def test_declared_jobs_follow_what_is_declared(database: apsw.Connection) -> None:
    hourly, other = declared("hourly"), declared("other")
    assert [what for what, _ in book.declare(database, [hourly, other], now=NOW)] == ["added", "added"]
    due = book.job(database, hourly.id).due
    later = NOW + timedelta(hours=5)
    assert book.declare(database, [declared("hourly", later), other], now=later) == []
    said = declared("hourly", later).model_copy(update={"message": "something else"})
    assert [what for what, _ in book.declare(database, [said], now=later)] == ["updated", "removed"]
    # Its times are as they were: what was missed is still missed.
    kept = book.job(database, hourly.id)
    assert (kept.due, kept.job.message, kept.job.created) == (due, "something else", NOW)
    moved = said.model_copy(update={"schedule": Every(seconds=7200, anchor=NOW)})
    book.declare(database, [moved], now=later)
    assert book.job(database, hourly.id).due == NOW + timedelta(hours=6)
    book.declare(database, [moved.model_copy(update={"enabled": False})], now=later)
    assert book.job(database, hourly.id).due is None
    book.declare(database, [], now=later)
    assert book.jobs(database) == []


def declared(name: str, at: datetime = NOW) -> Job:
    return Job(
        id=f"{book.DECLARED}{name}", name=name, schedule=Every(seconds=3600, anchor=NOW), message="x", declared=True,
        created=at, updated=at,
    )  # fmt: skip
