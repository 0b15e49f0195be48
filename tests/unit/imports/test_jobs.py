"""Their jobs as ours, old spellings too."""

from datetime import UTC, datetime

from carrel.imports.jobs import convert
from carrel.schedule.book import Job
from carrel.schedule.times import next_after
from tests.fakes.openclaw import JOBS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def test_each_kind_of_time() -> None:
    made = [convert(raw)[0] for raw in JOBS[:3]]
    jobs = [Job.model_validate(one) for one in made]
    assert [next_after(job.schedule, NOW) for job in jobs] == [
        datetime(2026, 3, 2, 6, 0, tzinfo=UTC), datetime(2026, 3, 1, 13, 0, tzinfo=UTC),
        datetime(2026, 3, 1, 12, 5, tzinfo=UTC),
    ]  # fmt: skip
    assert [job.enabled for job in jobs] == [True, False, True]
    assert [job.message for job in jobs] == ["Good morning", "Drink water", "tick"]


def test_what_is_not_as_it_was_is_told() -> None:
    assert convert(JOBS[0])[1] == ["its answer is kept, not sent to telegram"]
    assert "no system events" in convert(JOBS[1])[1][0]
    odd = {"name": "x", "schedule": {"kind": "cron", "expr": "7 0 7 * * *"}, "message": "m"}
    made, notes = convert(odd)
    assert made is not None
    assert (made["schedule"]["expr"], notes) == ("0 7 * * *", ["its seconds are left out: jobs are due by the minute"])
    fast = {"name": "x", "schedule": {"kind": "every", "everyMs": 1500}, "message": "m"}
    assert convert(fast)[1] == ["it runs every 10 s"]


def test_what_can_be_no_job_says_why() -> None:
    for raw, why in (
        ({}, "no schedule"), ({"schedule": {"kind": "lunar"}}, "lunar"), ({"schedule": "* *"}, "no five fields"),
        ({"schedule": {"kind": "at", "at": "soon"}}, "its time is none"), ({"schedule": "0 0 * * *"}, "says nothing"),
        ({"schedule": {"kind": "every", "everyMs": -1}}, "interval"), ({"schedule": 5, "payload": 5}, "no schedule"),
    ):  # fmt: skip
        made, notes = convert(raw)
        assert (made, why in notes[0]) == (None, True), raw


def test_the_same_job_has_the_same_id() -> None:
    assert convert(JOBS[0])[0] == convert(dict(JOBS[0]))[0]
