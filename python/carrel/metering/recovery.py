"""What the journal of an earlier run says: rows that may not be in their ledgers, and calls that nobody settled.

A call that was in flight when the gateway died is billed for the prompt alone, estimated at a quarter of its bytes:
the prompt was sent, and what came back nobody can know. Its row says ``interrupted``.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import structlog

from carrel.declare.rate_card import Tier, TokenCounts
from carrel.metering.rows import Opened, Row, Settled, price_at, read_opened, read_settled
from carrel.metering.segment import SUFFIX, order_of, read_lines
from carrel.policy.estimate import TEMPLATE_TOKENS, likely
from carrel.policy.pricing import Price, price_in

_log = structlog.get_logger(__name__)
_OUTCOMES: Final = frozenset({"ok", "error", "cancelled", "cut", "interrupted"})


@dataclass(slots=True)
class Recovered:
    """Files of an earlier run, and the rows that they hold."""

    files: list[Path] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    interrupted: int = 0


@dataclass(frozen=True, slots=True)
class _Tariff:
    price: Price
    card_hash: str
    plan: str = ""
    plan_hash: str = ""
    others: tuple[tuple[Tier, Price], ...] = ()


def read_journal(directory: Path, *, now: int) -> Recovered:
    """Everything in ``directory``. Blocks. ``now``: when interrupted calls are said to end, microseconds since 1970."""
    found = Recovered(files=sorted(directory.glob(f"*{SUFFIX}"), key=order_of))
    opened: dict[str, tuple[Opened, _Tariff]] = {}
    settled: set[str] = set()
    for path in found.files:
        tariffs: dict[int, _Tariff] = {}
        for line in read_lines(path):
            try:
                _read(line, tariffs, opened, settled, found.rows)
            except (ValueError, KeyError) as error:
                _log.error("a line of the journal makes no sense and is left out", file=path.name, error=str(error))
    for row_id, (call, tariff) in opened.items():
        if row_id not in settled:
            found.rows.append(_interrupted(call, tariff, now))
            found.interrupted += 1
    return found


def _read(
    line: bytes,
    tariffs: dict[int, _Tariff],
    opened: dict[str, tuple[Opened, _Tariff]],
    settled: set[str],
    rows: list[Row],
) -> None:
    fields = line.decode().split("\t")
    if fields[0] == "P":
        # One of an older version names no plan, and has one price.
        _, number, card_hash, snapshot, *more = fields
        if len(more) % 2:
            raise ValueError("a tariff has a plan with its hash, or none, and prices with their tiers")
        plan, plan_hash = more[:2] or ("", "")
        others = tuple((cast(Tier, tier), price_in(text)) for tier, text in zip(more[2::2], more[3::2], strict=True))
        tariffs[int(number)] = _Tariff(price_in(snapshot), card_hash, plan, plan_hash, others)
    elif fields[0] == "R":
        call = read_opened(fields)
        opened[call.id] = (call, tariffs[call.tariff])
    elif fields[0] == "S":
        end = read_settled(fields)
        if end.outcome not in _OUTCOMES:
            raise ValueError("an unknown outcome")
        if end.id not in settled:
            settled.add(end.id)
            rows.append(_row(*opened[end.id], end))
    else:
        raise ValueError("an unknown kind of line")


def _row(call: Opened, tariff: _Tariff, end: Settled) -> Row:
    price = price_at(tariff.others, end.counts.served) or tariff.price
    return Row(
        id=call.id, tenant=call.tenant, started=call.started, ended=end.ended, request_id=call.request_id,
        provider_request_id=end.provider_request_id, session_id=call.session_id, agent=call.agent, model=call.model,
        counts=end.counts, tool_calls=end.tool_calls, cost=price.cost(end.counts), rates=price.snapshot,
        card_hash=tariff.card_hash, outcome=end.outcome, byo=call.byo, estimated=end.estimated, member=call.member,
        plan=tariff.plan, plan_hash=tariff.plan_hash,
    )  # fmt: skip


def _interrupted(call: Opened, tariff: _Tariff, now: int) -> Row:
    counts = TokenCounts(input=likely(max(call.max_input - TEMPLATE_TOKENS, 1)))
    return _row(call, tariff, Settled(call.id, "interrupted", "", counts, 0, True, now))
