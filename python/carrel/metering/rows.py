"""What the journal keeps of a call: a line when it is let through, a line when it is settled, and the row they make.

A line is tab-separated text. What goes into it is of patterns without control characters; what a vendor chose is
cleaned first.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final, cast

from carrel.declare.rate_card import TokenCounts
from carrel.ids import TenantId
from carrel.metering.protocol import Call, Outcome
from carrel.policy.pricing import Price

MAX_PROVIDER_ID: Final = 128
SETTLED_MAX: Final = 512
"""No settled line is longer."""
_UNCLEAN: Final = re.compile(r"[^!-~]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_COUNT: Final = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price with the number that the journal's lines name it by, and the hash of the card that it is from.

    ``plan`` is the tenant's, empty where it has none, ``plan_hash`` the SHA-256 of what the plan was.
    """

    number: int
    price: Price
    card_hash: str
    plan: str = ""
    plan_hash: str = ""

    def line(self) -> bytes:
        """The journal's line for it."""
        return f"P\t{self.number}\t{self.card_hash}\t{self.price.snapshot}\t{self.plan}\t{self.plan_hash}".encode()


@dataclass(slots=True)
class Row:
    """One ledger row. ``started`` and ``ended`` are microseconds since 1970 in UTC; ``started`` is the timestamp."""

    id: str
    tenant: TenantId
    started: int
    ended: int
    request_id: str
    provider_request_id: str
    session_id: str
    agent: str
    model: str
    counts: TokenCounts
    tool_calls: int
    cost: Decimal
    rates: str
    card_hash: str
    outcome: Outcome
    byo: bool
    estimated: bool
    member: str = ""
    plan: str = ""
    plan_hash: str = ""

    @property
    def day(self) -> date:
        """The UTC day that it belongs to."""
        return moment(self.started).date()


@dataclass(frozen=True, slots=True)
class Opened:
    """A call that was let through, as the journal has it."""

    id: str
    tenant: TenantId
    started: int
    request_id: str
    session_id: str
    agent: str
    model: str
    tariff: int
    byo: bool
    max_input: int
    max_output: int
    member: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of a call, as the journal has it."""

    id: str
    outcome: Outcome
    provider_request_id: str
    counts: TokenCounts
    tool_calls: int
    estimated: bool
    ended: int


def opened_line(
    row_id: str, tenant: TenantId, started: int, call: Call, tariff: int, *, member: str | None = None
) -> bytes:
    """The line for a call that is let through, for ``member`` where that is known."""
    return (
        f"R\t{row_id}\t{tenant}\t{started}\t{call.request_id}\t{call.session_id or ''}\t{call.agent or ''}\t"
        f"{call.model}\t{tariff}\t{int(call.byo)}\t{call.max_input}\t{call.max_output}\t"
        f"{member or ''}"
    ).encode()


def settled_line(row: Row) -> bytes:
    """The line for a call that is settled. Its cost is not in it: rates and counts make it again, exactly."""
    c = row.counts
    return (
        f"S\t{row.id}\t{row.outcome}\t{row.provider_request_id}\t{c.input}\t{c.cache_read}\t{c.cache_write}\t"
        f"{c.output}\t{c.reasoning}\t{c.cache_write_1h}\t{row.tool_calls}\t{int(row.estimated)}\t{row.ended}"
    ).encode()


def read_opened(fields: list[str]) -> Opened:
    """An ``R`` line's fields; raises ValueError. One of an older version names no member."""
    _, row_id, tenant, started, request_id, session, agent, model, tariff, byo, max_input, max_output, *more = fields
    if len(more) > 1:
        raise ValueError("more fields than an opened call has")
    return Opened(
        row_id, TenantId(tenant), int(started), request_id, session, agent, model, int(tariff), byo == "1",
        int(max_input), int(max_output), *more,
    )  # fmt: skip


def read_settled(fields: list[str]) -> Settled:
    """An ``S`` line's fields; raises ValueError. One of an older version has no one-hour writes."""
    _, row_id, outcome, provider_id, *numbers, tool_calls, estimated, ended = fields
    if len(numbers) > 6:
        raise ValueError("more numbers than there are classes")
    counts = clean_counts(TokenCounts(*(int(n) for n in numbers)))
    return Settled(
        row_id, cast(Outcome, outcome), provider_id, counts, int(tool_calls), estimated == "1", int(ended)
    )  # fmt: skip


def clean_provider_id(text: str | None) -> str:
    """A vendor's request id as a ledger may hold it: printable ASCII of bounded length."""
    if not text:
        return ""
    return _UNCLEAN.sub("", text[:MAX_PROVIDER_ID])


def clean_counts(counts: TokenCounts) -> TokenCounts:
    """``counts`` within what a ledger can hold; a vendor that says more is not believed."""
    values = (
        counts.input, counts.cache_read, counts.cache_write, counts.output, counts.reasoning, counts.cache_write_1h
    )  # fmt: skip
    if min(values) >= 0 and max(values) <= _MAX_COUNT and values[5] <= values[2]:
        return counts
    read, cached, written, output, reasoning, hour = (min(max(value, 0), _MAX_COUNT) for value in values)
    return TokenCounts(read, cached, written, output, reasoning, min(hour, written))


def micros(at: datetime) -> int:
    """An instant as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """Microseconds since 1970 as an instant in UTC."""
    return _EPOCH + timedelta(microseconds=at)
