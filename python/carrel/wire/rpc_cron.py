"""The models of `cron.*`; see `wire.rpc`."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from carrel.wire.rpc import AgentName, Page, Params, Result, SessionIdText

JobId = Annotated[str, Field(min_length=1, max_length=80)]
Message = Annotated[str, Field(min_length=1, max_length=100_000)]
JobName = Annotated[str, Field(min_length=1, max_length=200)]
Description = Annotated[str, Field(max_length=1000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]


class CronSchedule(Params):
    """When: `at` a time, `every` so many seconds, or by a `cron` expression of five fields in a time zone."""

    kind: Literal["at", "every", "cron"]
    at: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="For `at`: a time with its offset, as `2027-01-31T09:00:00+01:00`."
    )
    every_seconds: Annotated[int, Field(ge=10, le=31_622_400)] | None = Field(None, description="For `every`.")
    anchor: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="For `every`: a time with its offset to count from. Default: now."
    )
    expr: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="For `cron`: minute, hour, day, month, weekday, as `0 9 * * 1-5`."
    )
    tz: Annotated[str, Field(max_length=64)] | None = Field(
        None, description="For `cron`: the time zone, as `Europe/Vienna`. Default: UTC."
    )


class CronAddParams(Params):
    """Parameters of `cron.add`."""

    name: JobName
    description: Description = ""
    schedule: CronSchedule
    message: Message = Field(description="What is said to the agent.")
    agent_id: AgentName | None = Field(None, description="Default: the tenant's default agent.")
    session_id: SessionIdText | None = Field(None, description="A session for all runs. Default: a new one each.")
    enabled: bool = True
    catch_up: Literal["once", "skip"] = Field(
        "once", description="What becomes of times that were missed: one run for all of them, or none."
    )
    delete_after_run: bool = Field(False, description="For `at`: remove the job after its run.")
    timeout_seconds: Seconds = 3600


class CronUpdateParams(Params):
    """Parameters of `cron.update`: only what is sent is changed."""

    job_id: JobId
    name: JobName | None = None
    description: Description | None = None
    schedule: CronSchedule | None = None
    message: Message | None = None
    agent_id: AgentName | None = None
    session_id: SessionIdText | None = None
    enabled: bool | None = None
    catch_up: Literal["once", "skip"] | None = None
    delete_after_run: bool | None = None
    timeout_seconds: Seconds | None = None


class CronJobParams(Params):
    """A job by its id."""

    job_id: JobId


class CronRunParams(CronJobParams):
    """Parameters of `cron.run`."""

    wait: bool = Field(False, description="Answer when the run has ended.")
    mode: Literal["due", "force"] | None = Field(
        None, description="`due`: only where its time has come. With either, a job that runs already is no error."
    )


class CronListParams(Page):
    """Parameters of `cron.list`."""

    include_disabled: bool = True


class CronRunsParams(Page):
    """Parameters of `cron.runs`."""

    job_id: JobId | None = Field(None, description="Default: the runs of all jobs.")


class CronWhen(CronSchedule):
    """A schedule as it is told. Clients take keys that they do not know."""

    model_config = ConfigDict(extra="ignore")


class CronJob(Result):
    """A job. ``nextRunAt`` is when it is due next; a ``declared`` one is changed where it is declared alone."""

    job_id: str
    name: str
    description: str = ""
    schedule: CronWhen
    message: str
    agent_id: str | None = None
    session_id: str | None = None
    member: str | None = None
    enabled: bool
    catch_up: str
    delete_after_run: bool
    timeout_seconds: int
    declared: bool = False
    created_at: int
    updated_at: int
    next_run_at: int | None = None
    running: bool


class CronJobs(Result):
    """Jobs by name."""

    jobs: tuple[CronJob, ...]
    next: str | None = None


class CronRun(Result):
    """A run: `running`, `ok`, `failed`, `skipped`, `interrupted` (the gateway ended) or `cancelled`."""

    run_id: str
    job_id: str
    due_at: int
    began_at: int
    ended_at: int | None = None
    status: str
    session_id: str | None = None
    text: str = ""


class CronRanNow(Result):
    """The run as `cron.runs` has it; or, where ``ran`` is false, why there is none."""

    ok: bool = True
    ran: bool
    reason: Literal["not-due", "already-running"] | None = None
    run_id: str | None = None
    job_id: str
    due_at: int | None = None
    began_at: int | None = None
    ended_at: int | None = None
    status: str | None = None
    session_id: str | None = None
    text: str | None = None


class CronRuns(Result):
    """Runs, newest first."""

    runs: tuple[CronRun, ...]
    next: str | None = None


class CronRemoved(Result):
    """The job that is gone."""

    ok: bool
    job_id: str


class CronStatus(Result):
    """How the schedule stands."""

    enabled: bool
    jobs: int
    running: tuple[str, ...]
    next_run_at: int | None = None
