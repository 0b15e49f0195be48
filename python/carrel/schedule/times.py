"""When a job is due: once, at a distance, or by a cron expression in a time zone. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from carrel.errors import InvalidRequest

SHORTEST: Final = 10
"""Seconds between two runs at least."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class At(_Part):
    """Once."""

    kind: Literal["at"] = "at"
    at: AwareDatetime


class Every(_Part):
    """Again and again at a distance of ``seconds`` from ``anchor``."""

    kind: Literal["every"] = "every"
    seconds: Annotated[int, Field(ge=SHORTEST, le=366 * 86_400)]
    anchor: AwareDatetime


class Cron(_Part):
    """By a cron expression of five fields, in the zone ``tz``; summer time is handled as Debian's cron does."""

    kind: Literal["cron"] = "cron"
    expr: Annotated[str, Field(min_length=1, max_length=200)]
    tz: Annotated[str, Field(max_length=64)] = "UTC"


Schedule = Annotated[At | Every | Cron, Field(discriminator="kind")]


def next_after(schedule: At | Every | Cron, after: datetime) -> datetime | None:
    """The first time after ``after``, None where there is none; raises InvalidRequest."""
    match schedule:
        case At(at=at):
            return at.astimezone(UTC) if at > after else None
        case Every(seconds=seconds, anchor=anchor):
            if anchor > after:
                return anchor.astimezone(UTC)
            step = timedelta(seconds=seconds)
            return (anchor + step * ((after - anchor) // step + 1)).astimezone(UTC)
        case Cron(expr=expr, tz=tz):
            return _next_of(expr, tz, after)


def _next_of(expr: str, tz: str, after: datetime) -> datetime | None:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - a gateway without jobs does without it

    if len(expr.split()) != 5:
        raise InvalidRequest(
            "A cron expression has five fields: minute, hour, day, month, weekday.", param="schedule.expr"
        )
    try:
        zone = ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise InvalidRequest(
            f"There is no time zone {tz[:64]!r}: name one as `Europe/Vienna`.", param="schedule.tz"
        ) from None
    try:
        found = next(CronSim(expr, after.astimezone(zone)))
    except StopIteration:
        return None
    except CronSimError as error:
        raise InvalidRequest(f"{expr[:80]!r} is no cron expression: {error}.", param="schedule.expr") from None
    return found.astimezone(UTC)
