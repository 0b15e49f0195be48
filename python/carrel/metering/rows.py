"""What the journal keeps of a call: a line when it is let through, a line when it is settled, and the row they make.

A line is tab-separated text. What goes into it is of patterns without control characters; what a vendor chose is
cleaned first.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from carrel.declare.rate_card import TokenCounts
from carrel.ids import TenantId
from carrel.metering.protocol import Call, Outcome
from carrel.policy.pricing import Price, plain

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


Values = tuple[
    str, int, int, str, str, str, str, str, int, int, int, int, int, int, str, str, int, int, str, int,
    str, str, str, str,
]  # fmt: skip
"""A row as a ledger's columns have it, and the terms that it was priced by: what `Row.of` takes.

A plain tuple of plain values: the garbage collector need not look at it while it waits for its ledger.
"""
TERMS: Final = 4
"""How many of the values, the last ones, are terms: the hash of the rate card, the rates, the plan and its hash."""


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

    @property
    def values(self) -> Values:
        """It as flat values."""
        c = self.counts
        return (
            self.id, self.started, self.ended, self.request_id, self.provider_request_id, self.session_id, self.agent,
            self.model, c.input, c.cache_read, c.cache_write, c.output, c.reasoning, self.tool_calls, plain(self.cost),
            self.outcome, int(self.byo), int(self.estimated), self.member, c.cache_write_1h, self.card_hash, self.rates,
            self.plan, self.plan_hash,
        )  # fmt: skip

    @classmethod
    def of(cls, tenant: TenantId, values: Values) -> "Row":
        """The row of ``tenant`` that these are the values of."""
        row_id, started, ended, request, provider, session, agent, model, *more = values
        fields: list[Any] = [*more]
        (
            read_in, read, written, out, reasoning, tools, cost, outcome, byo, estimated, member, hour, card_hash,
            rates, plan, plan_hash,
        ) = fields  # fmt: skip
        return cls(
            row_id, tenant, started, ended, request, provider, session, agent, model,
            TokenCounts(read_in, read, written, out, reasoning, hour), tools, Decimal(cost), rates, card_hash, outcome,
            bool(byo), bool(estimated), member, plan, plan_hash,
        )  # fmt: skip


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


def settled_line(values: Values) -> bytes:
    """The line for a call that is settled. Its cost is not in it: rates and counts make it again, exactly."""
    (
        row_id, _, ended, _, provider_id, _, _, _, prompt, read, written, output, reasoning, tool_calls, _, outcome, _,
        estimated, _, hour, *_,
    ) = values  # fmt: skip
    return (
        f"S\t{row_id}\t{outcome}\t{provider_id}\t{prompt}\t{read}\t{written}\t{output}\t{reasoning}\t{hour}\t"
        f"{tool_calls}\t{estimated}\t{ended}"
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
    read, cached, written = counts.input, counts.cache_read, counts.cache_write
    output, reasoning, hour = counts.output, counts.reasoning, counts.cache_write_1h
    # Bits of all of them at once: a negative one has the sign's, one that is too large has one above the most.
    if 0 <= (read | cached | written | output | reasoning | hour) <= _MAX_COUNT and hour <= written:
        return counts
    values = (read, cached, written, output, reasoning, hour)
    read, cached, written, output, reasoning, hour = (min(max(value, 0), _MAX_COUNT) for value in values)
    return TokenCounts(read, cached, written, output, reasoning, min(hour, written))


def micros(at: datetime) -> int:
    """An instant as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """Microseconds since 1970 as an instant in UTC."""
    return _EPOCH + timedelta(microseconds=at)
