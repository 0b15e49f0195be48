"""The models of requests for a higher quota: what a tenant asks for, and what the operator decides."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from carrel.wire.control import Answer, Order
from carrel.wire.rpc import Page, Params, Result

QuotaName = Literal[
    "tokens_per_day", "tokens_per_month", "cost_per_day_usd", "cost_per_month_usd", "requests_per_second",
    "requests_per_minute", "requests_per_hour", "disk_bytes", "disk_files", "snapshots_bytes", "concurrent_sessions",
]  # fmt: skip
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,16}(\.[0-9]{1,9})?$")]
"""A limit as exact text: whole for what is counted, US dollars for money."""
Reason = Annotated[str, Field(max_length=1000)]


class QuotaAsk(Params):
    """What is asked for: another hard limit of one quota, and why."""

    quota: QuotaName
    limit: Amount
    reason: Reason = ""


class QuotaAsked(Result):
    """A request and where it stands."""

    id: str
    quota: str
    limit: str = Field(description="The hard limit that is asked for.")
    reason: str = ""
    state: str = Field(description="`waiting`, `approved` or `rejected`.")
    asked: datetime
    asked_by: str
    granted: str | None = Field(None, description="The hard limit that was granted: it may be another.")
    decided: datetime | None = None
    note: str = Field("", description="What the operator says to it.")


class QuotaAskedPage(Page):
    """Which page of the requests."""


class QuotaAskedList(Result):
    """Requests, the newest first."""

    requests: tuple[QuotaAsked, ...]
    next: str | None = Field(None, description="The cursor of the next page; absent at the end.")


class QuotaRequestView(Answer):
    """A request for a higher quota, as the operator sees it."""

    id: str
    tenant: str
    quota: str
    limit: str = Field(description="The hard limit that is asked for.")
    reason: str = ""
    state: Literal["waiting", "approved", "rejected"]
    asked: datetime
    asked_by: str = Field(description="The prefix of the token that asked, or the operator.")
    granted: str | None = None
    decided: datetime | None = None
    decided_by: str | None = None
    note: str = ""


class QuotaRequestList(Answer):
    """Requests, the newest first; ``next`` goes on after the last of them, None where there are no more."""

    requests: tuple[QuotaRequestView, ...]
    next: str | None = None


class QuotaDecision(Order):
    """What the operator decides. An approved limit is written into the tenant's file."""

    decision: Literal["approve", "reject"]
    limit: Annotated[Decimal, Field(ge=0)] | None = Field(
        None, description="The hard limit to grant; what was asked for by default."
    )
    note: Reason = ""
