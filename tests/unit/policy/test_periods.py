from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from carrel.errors import InvalidRequest
from carrel.policy.periods import midnight, months_back, next_month, parse_period

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("today", "2026-03-01", "2026-03-01"),
        ("yesterday", "2026-02-28", "2026-02-28"),
        ("current-month", "2026-03-01", "2026-03-01"),
        ("last-month", "2026-02-01", "2026-02-28"),
        ("2024-02-29", "2024-02-29", "2024-02-29"),
        ("2025-12-30..2026-01-02", "2025-12-30", "2026-01-02"),
    ],
)
def test_periods(text: str, first: str, last: str) -> None:
    period = parse_period(text, NOW)
    assert (period.first.isoformat(), period.last.isoformat()) == (first, last)
    assert period.start == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert period.end - midnight(period.last) == timedelta(days=1)
    assert period.holds(period.last)
    assert not period.holds(period.last + timedelta(days=1))


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-02-29", "2026-2-1", "2026-03-02..2026-03-01", "2026-03-01..", "..2026-03-01", "20260301",
     "1900-01-01..2026-01-01", "0001-01-01", "9999-12-31", "2026-03-01..2026-03-02..2026-03-03", "\u0662026-03-01"],
)  # fmt: skip
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_period(text, NOW)


def test_days_are_utc() -> None:
    late_in_rome = datetime(2026, 3, 2, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert parse_period("today", late_in_rome).first == date(2026, 3, 1)


@pytest.mark.parametrize(("day", "after"), [("2026-01-31", "2026-02-01"), ("2026-12-01", "2027-01-01")])
def test_the_next_month(day: str, after: str) -> None:
    assert next_month(date.fromisoformat(day)).isoformat() == after


def test_months_go_back_over_a_new_year_and_the_newest_is_not_over() -> None:
    months = months_back(4, NOW)
    assert [f"{month.first}..{month.last}" for month in months] == [
        "2026-03-01..2026-03-01", "2026-02-01..2026-02-28", "2026-01-01..2026-01-31", "2025-12-01..2025-12-31",
    ]  # fmt: skip
