"""The periods that reports take: whole UTC days, both ends included."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from carrel.errors import InvalidRequest

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
MAX_DAYS: Final = 366 * 10
ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """From the day ``first`` to the day ``last``, both included, in UTC."""

    first: date
    last: date

    @property
    def start(self) -> datetime:
        """Its first instant."""
        return midnight(self.first)

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return midnight(self.last + ONE_DAY)

    def holds(self, day: date) -> bool:
        """Whether ``day`` is in it."""
        return self.first <= day <= self.last


def parse_period(text: str, now: datetime) -> Period:
    """``today``, ``yesterday``, ``current-month``, ``last-month``, a date or ``A..B``; raises InvalidRequest."""
    today = now.astimezone(UTC).date()
    match text:
        case "today":
            return Period(today, today)
        case "yesterday":
            return Period(today - ONE_DAY, today - ONE_DAY)
        case "current-month":
            return Period(today.replace(day=1), today)
        case "last-month":
            last = today.replace(day=1) - ONE_DAY
            return Period(last.replace(day=1), last)
    first, dots, last_text = text.partition("..")
    period = Period(_date(first), _date(last_text) if dots else _date(first))
    if period.last < period.first:
        raise InvalidRequest(f"The period {text!r} ends before it begins.", param="period")
    if (period.last - period.first).days >= MAX_DAYS:
        raise InvalidRequest("A period is ten years at most.", param="period")
    return period


def midnight(day: date) -> datetime:
    """The instant that ``day`` begins, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def next_month(day: date) -> date:
    """The first day of the month after ``day``'s."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def months_back(count: int, now: datetime) -> tuple[Period, ...]:
    """The last ``count`` months, the newest first: the one that ``now`` is in, up to today, and those before it."""
    today = now.astimezone(UTC).date()
    months = [Period(today.replace(day=1), today)]
    while len(months) < count:
        last = months[-1].first - ONE_DAY
        months.append(Period(last.replace(day=1), last))
    return tuple(months)


def _date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            found = date.fromisoformat(text)
            if 1970 <= found.year < 9999:
                return found
    except ValueError:
        pass
    raise InvalidRequest(
        f"{text[:32]!r} is no period: say today, yesterday, current-month, last-month, YYYY-MM-DD or "
        "YYYY-MM-DD..YYYY-MM-DD.",
        param="period",
    )
