"""Jobs that a tenant's YAML declares: what is said to which agent, and when. Whether they ran is not known here."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from carrel.declare.base import Declared, Moment, Name
from carrel.ids import SESSION_ID_PATTERN

MOST_DECLARED: Final = 100
_WAYS: Final = ("cron", "every_seconds", "at")
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


class DeclaredJob(Declared):
    """A job. It says when by one of `cron`, `every_seconds` and `at`."""

    message: Annotated[str, Field(min_length=1, max_length=100_000)] = Field(description="What is said to the agent.")
    cron: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="When: minute, hour, day, month, weekday, as `0 9 * * 1-5`."
    )
    tz: Annotated[str, Field(max_length=64)] = Field("UTC", description="The time zone of `cron`, as `Europe/Vienna`.")
    every_seconds: Annotated[int, Field(ge=10, le=31_622_400)] | None = Field(
        None, description="When: again and again at this distance."
    )
    at: Moment | None = Field(None, description="When: once, with its offset: `2027-01-31T09:00:00+01:00`.")
    agent: Name | None = Field(None, description="Default: the tenant's default agent.")
    session: Annotated[str, Field(pattern=SESSION_ID_PATTERN)] | None = Field(
        None, description="A session for all runs. Default: a new one each."
    )
    member: Name | None = Field(None, description="The person of `members` whose job it is. Default: nobody's.")
    enabled: bool = Field(True, description="`false` keeps the job and runs it only where it is asked for.")
    catch_up: Literal["once", "skip"] = Field(
        "once", description="What becomes of times that were missed: one run for all of them, or none."
    )
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(3600, description="What a run may take at most.")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, expr: str | None) -> str | None:
        if expr is not None:
            _require_cron(expr)
        return expr

    @field_validator("tz")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise ValueError("no such time zone: name one as `Europe/Vienna`") from None
        return name

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in _WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            found = f"{' and '.join(ways)} are there" if ways else "none is there"
            raise ValueError(f"say when by one of {', '.join(_WAYS)}: {found}")
        if self.tz != "UTC" and self.cron is None:
            raise ValueError("tz is the time zone of `cron`, which is not there")
        return self


@lru_cache(maxsize=4096)
def _require_cron(expr: str) -> None:
    """Raise ValueError where ``expr`` is no cron expression of five fields."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - most declare no job

    if len(expr.split()) != 5:
        raise ValueError("a cron expression has five fields: minute, hour, day, month, weekday")
    try:
        CronSim(expr, _SOME_DAY)
    except CronSimError as error:
        raise ValueError(f"no cron expression: {error}") from None
