"""When jobs are due."""

from datetime import UTC, datetime, timedelta

import pytest

from carrel.errors import InvalidRequest
from carrel.schedule.times import At, Cron, Every, next_after

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def times(schedule: At | Every | Cron, after: datetime, count: int) -> list[str]:
    found: list[str] = []
    at: datetime | None = after
    while at is not None and len(found) < count:
        at = next_after(schedule, at)
        if at is not None:
            found.append(f"{at:%d %H:%M}")
    return found


def test_once_is_once() -> None:
    at = At(at=NOW + timedelta(hours=1))
    assert next_after(at, NOW) == NOW + timedelta(hours=1)
    assert next_after(at, NOW + timedelta(hours=1)) is None


def test_a_distance_is_counted_from_its_anchor() -> None:
    every = Every(seconds=60, anchor=NOW)
    assert next_after(every, NOW) == NOW + timedelta(seconds=60)
    assert next_after(every, NOW + timedelta(seconds=59.5)) == NOW + timedelta(seconds=60)
    assert next_after(every, NOW + timedelta(days=3, seconds=61)) == NOW + timedelta(days=3, seconds=120)
    assert next_after(every, NOW - timedelta(days=1)) == NOW


def test_an_expression_is_read_in_its_zone() -> None:
    assert times(Cron(expr="0 9 * * 1-5", tz="Europe/Vienna"), NOW, 2) == ["02 08:00", "03 08:00"]
    assert times(Cron(expr="0 9 * * *"), NOW, 1) == ["02 09:00"]


def test_summer_time_leaves_out_and_doubles_no_day() -> None:
    daily = Cron(expr="30 2 * * *", tz="Europe/Vienna")
    # 2026-03-29, 02:30 is not there; 2026-10-25, it is there twice.
    assert len({day[:2] for day in times(daily, datetime(2026, 3, 27, 12, tzinfo=UTC), 4)}) == 4
    assert len({day[:2] for day in times(daily, datetime(2026, 10, 23, 12, tzinfo=UTC), 4)}) == 4


@pytest.mark.parametrize(
    ("expr", "tz"), [("* * * *", "UTC"), ("61 * * * *", "UTC"), ("x", "UTC"), ("* * * * * *", "UTC"),
                     ("* * * * *", "Nowhere/City"), ("* * * * *", "../../etc/passwd"), ("0 0 31 2 *", "\0")],
)  # fmt: skip
def test_what_is_no_time_is_refused(expr: str, tz: str) -> None:
    with pytest.raises(InvalidRequest):
        next_after(Cron(expr=expr, tz=tz), NOW)
