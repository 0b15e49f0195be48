"""What the journal keeps of a call: a line when it is let through, a line when it is settled, and the row they make.

A line is tab-separated text. What goes into it is of patterns without control characters; what a vendor chose is
cleaned first.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, Final, cast, get_args

from carrel.declare.rate_card import Tier, TokenCounts
from carrel.ids import TenantId
from carrel.metering.protocol import Call, Outcome
from carrel.policy.pricing import Price, plain

MAX_PROVIDER_ID: Final = 128
SETTLED_MAX: Final = 512
"""No settled line is longer."""
_UNCLEAN: Final = re.compile(r"[^!-~]")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = 86_400_000_000
"""In microseconds."""
_MAX_COUNT: Final = (1 << 53) - 1
TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
_SETTLED: Final = "S\t%s\t%s\t%s" + "\t%d" * 9


@dataclass(frozen=True, slots=True)
class Tariff:
    """A price with the number that the journal's lines name it by, and the hash of the card that it is from.

    ``plan`` is the tenant's, empty where it has none, ``plan_hash`` the SHA-256 of what the plan was. ``price`` is that
    of the tier that was asked for, ``others`` have those of the tiers that cost something else.
    """

    number: int
    price: Price
    card_hash: str
    plan: str = ""
    plan_hash: str = ""
    others: tuple[tuple[Tier, Price], ...] = ()

    def priced(self, served: Tier | None) -> Price:
        """The price of a call that was served at this tier; None: its vendor did not say."""
        return price_at(self.others, served) or self.price

    def worst(self, max_input: int, max_output: int, *, asked: Tier | None) -> Decimal:
        """The most that a call can cost, at whichever tier it is served that was ``asked`` for.

        Who asks for none leaves it to the vendor. A call without haste is never served before others.
        """
        own = self.price.worst(max_input, max_output)
        if not self.others or asked == "standard":
            return own
        may = (price for tier, price in self.others if asked != "batch" or tier == "standard")
        return max((own, *(price.worst(max_input, max_output) for price in may)))

    def line(self) -> bytes:
        """The journal's line for it."""
        fields = [str(self.number), self.card_hash, self.price.snapshot, self.plan, self.plan_hash]
        for tier, price in self.others:
            fields += [tier, price.snapshot]
        return "\t".join(("P", *fields)).encode()


def price_at(others: tuple[tuple[Tier, Price], ...], served: Tier | None) -> Price | None:
    """The price of a tier in ``others``, None where it has none there."""
    return next((price for tier, price in others if tier == served), None)


Values = tuple[
    str, int, int, str, str, str, str, str, int, int, int, int, int, int, str, str, int, int, str, int,
    str, str, str, str,
]  # fmt: skip
"""A row as a ledger's columns have it, and the terms that it was priced by: what `Row.of` takes.

A plain tuple of plain values: the garbage collector need not look at it while it waits for its ledger.
"""
TERMS: Final = 4
"""How many of the values, the last ones, are terms: the hash of the rate card, the rates, the plan and its hash."""


_settled_of: Final = itemgetter(0, 15, 4, 8, 9, 10, 11, 12, 19, 13, 17, 2)
"""Those of the values that are not known when a call is let through, in the order of a settled line's fields."""


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
    request_id, model, max_input, max_output, session_id, agent, byo, _ = call
    return (
        f"R\t{row_id}\t{tenant}\t{started}\t{request_id}\t{session_id or ''}\t{agent or ''}\t{model}\t{tariff}\t"
        f"{1 if byo else 0}\t{max_input}\t{max_output}\t{member or ''}"
    ).encode()


def settled_line(values: Values, served: Tier | None = None) -> bytes:
    """The line for a call that is settled. Its cost is not in it: rates and counts make it again, exactly.

    ``served`` says by which of its tariff's prices, where its vendor said at which tier it served it.
    """
    line: str = _SETTLED % _settled_of(values)
    return (f"{line}\t{served}" if served else line).encode()


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
    """An ``S`` line's fields; raises ValueError. One of an older version has no one-hour writes, and names no tier."""
    served = next((tier for tier in TIERS if tier == fields[-1]), None)
    _, row_id, outcome, provider_id, *numbers, tool_calls, estimated, ended = fields[:-1] if served else fields
    if len(numbers) > 6:
        raise ValueError("more numbers than there are classes")
    read_in, read, written, output, reasoning, *hour = (int(n) for n in numbers)
    kept_long = hour[0] if hour else 0
    counts = clean_counts(TokenCounts(read_in, read, written, output, reasoning, kept_long, served))
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
    return TokenCounts(read, cached, written, output, reasoning, min(hour, written), counts.served)


def micros(at: datetime) -> int:
    """An instant as microseconds since 1970."""
    return (at - _EPOCH) // _MICROSECOND


def moment(at: int) -> datetime:
    """Microseconds since 1970 as an instant in UTC."""
    return _EPOCH + timedelta(microseconds=at)
