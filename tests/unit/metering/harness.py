"""A meter on a directory, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.clock import Clock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.metering.ledger import LedgerEntry
from carrel.metering.protocol import Call
from carrel.metering.service import HeldCall, Metering
from carrel.policy.periods import Period, parse_period
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.tenants import make_snapshot, make_tenant

USED = TokenCounts(input=10, cache_read=5, cache_write=2, output=20, reasoning=3)


@dataclass(slots=True)
class Bench:
    """A meter with one tenant."""

    meter: Metering
    clock: Any
    tenant: Tenant
    snapshot: Snapshot
    metrics: Metrics

    async def hold(self, number: int = 1, *, max_input: int = 100, max_output: int = 100, **more: Any) -> HeldCall:
        call = Call(RequestId(f"req_{number}"), "demo", max_input, max_output, **more)
        return await self.meter.reserve(self.tenant, self.snapshot, call)

    async def call(self, number: int = 1, usage: TokenCounts = USED, **more: Any) -> None:
        held = await self.hold(number, **more)
        await held.settle(usage, outcome="ok")

    def period(self, text: str = "current-month") -> Period:
        return parse_period(text, self.clock.now())

    async def rows(self, text: str = "current-month") -> list[LedgerEntry]:
        found, _ = await self.meter.rows(self.tenant, self.period(text), limit=1000)
        return found


@asynccontextmanager
async def bench(
    state: Path, *, clock: Clock | None = None, quotas: Any = None, crash: bool = False, **options: Any
) -> AsyncIterator[Bench]:
    """A started meter. ``crash``: it is left as a killed process would leave it."""
    used_clock = clock or FakeClock()
    tenant = make_tenant(state, **({"quotas": quotas} if quotas is not None else {}))
    tasks, metrics = Tasks("test"), Metrics()
    meter = Metering(state_dir=state, clock=used_clock, tasks=tasks, metrics=metrics, **options)
    await meter.start()
    try:
        yield Bench(meter, used_clock, tenant, make_snapshot(tenant), metrics)
    finally:
        await tasks.close()
        if crash:
            await abandon(meter)
        else:
            await meter.close()
        tenant.root.close()


async def abandon(meter: Metering) -> None:
    """Close files and threads without writing anything more, as the end of a process does."""
    journal, book = meter._journal, meter._book
    book._pending.clear()
    await book.close()
    for segment in (*journal._full, journal._current, *journal._spares):
        if segment is not None:
            segment.close()
    journal._pool.shutdown(wait=True)
    journal._committer.close()
