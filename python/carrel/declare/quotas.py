"""Quotas: what a tenant may use in a window of time, each hard or soft."""

from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field

from carrel.declare.base import Declared, Money

MOST_COUNTED: Final = 1 << 53
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]


class CountLimit(Declared):
    """``hard`` refuses with 429; ``soft`` only warns. Either may stand alone."""

    hard: Count | None = Field(None, description="Refuse what would pass this.")
    soft: Count | None = Field(None, description="Warn once this is passed.")


class MoneyLimit(Declared):
    """The same for US dollars."""

    hard: Money | None = Field(None, description="Refuse what would pass this.")
    soft: Money | None = Field(None, description="Warn once this is passed.")


class SoftLimit(Declared):
    """A limit that only warns: what refuses is declared elsewhere."""

    soft: Count | None = Field(None, description="Warn once this is passed.")


class Quotas(Declared):
    """Windows: days and months are fixed and UTC; minutes and hours slide; a second is a token bucket.

    A bare number is a hard limit. A key that is absent or null is no limit.
    """

    tokens_per_day: Count | CountLimit | None = Field(None, description="Tokens of all classes in a UTC day.")
    tokens_per_month: Count | CountLimit | None = Field(None, description="Tokens of all classes in a UTC month.")
    cost_per_day_usd: Money | MoneyLimit | None = Field(None, description="Billed US dollars in a UTC day.")
    cost_per_month_usd: Money | MoneyLimit | None = Field(None, description="Billed US dollars in a UTC month.")
    requests_per_second: Count | CountLimit | None = Field(
        None, description="Requests, by a token bucket that holds one second of them."
    )
    requests_per_minute: Count | CountLimit | None = Field(None, description="Requests in a sliding minute.")
    requests_per_hour: Count | CountLimit | None = Field(None, description="Requests in a sliding hour.")
    disk_bytes: Count | CountLimit | None = Field(
        None, description="Bytes on the disk of all workspaces of the tenant together."
    )
    disk_files: Count | CountLimit | None = Field(
        None, description="Files, directories and links of all workspaces of the tenant together."
    )
    snapshots_bytes: Count | CountLimit | None = Field(
        None, description="Bytes of all snapshots of the tenant's workspaces together, as if they shared no content."
    )
    concurrent_sessions: Count | CountLimit | None = Field(
        None, description="Sessions of agents in which a turn runs, or waits for one to end, at a time."
    )
    sandbox_cpu_seconds: SoftLimit | None = Field(
        None, description="Processor time of one command. What ends it is `sandbox.cpu_seconds`."
    )
    sandbox_memory_bytes: SoftLimit | None = Field(
        None, description="Memory of one command at its most. What ends it is `sandbox.memory_bytes`."
    )
    sandbox_pids: SoftLimit | None = Field(
        None,
        description="Processes and threads of one command at their most, where there are cgroups to count them. "
        "What refuses more is `sandbox.pids`.",
    )

    def count(self, name: str) -> CountLimit:
        """The limit of a counted quota, as a CountLimit."""
        value = getattr(self, name)
        if isinstance(value, SoftLimit):
            return CountLimit(soft=value.soft)
        return value if isinstance(value, CountLimit) else CountLimit(hard=value)

    def money(self, name: str) -> MoneyLimit:
        """The limit of a dollar quota, as a MoneyLimit."""
        value: Decimal | MoneyLimit | None = getattr(self, name)
        return value if isinstance(value, MoneyLimit) else MoneyLimit(hard=value)
