"""A process that calls models at the end of a month as fast as its quotas let it, to be killed at any moment.

``python -m tests.fakes.quota_writer STATE START``: its clock begins at START (ISO 8601) and goes on at the usual pace.
Prints ``ready``, ``acked DAY TOKENS`` for each call that was settled, ``refused`` for each that was not let through.
"""

import asyncio
import os
import random
import sys
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from carrel.clock import SystemClock
from carrel.declare.quotas import CountLimit, MoneyLimit, Quotas
from carrel.declare.rate_card import TokenCounts
from carrel.errors import QuotaExceeded
from carrel.ids import RequestId
from carrel.metering.protocol import Call
from carrel.metering.rows import micros
from carrel.metering.service import Metering
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from tests.fakes.tenants import make_snapshot, make_tenant

WRITERS = 48
DAY, MONTH = 12_000, 20_000
QUOTAS = Quotas(
    tokens_per_day=CountLimit(hard=DAY), tokens_per_month=CountLimit(hard=MONTH, soft=MONTH // 2),
    cost_per_day_usd=MoneyLimit(hard=Decimal(1)),
)  # fmt: skip


class ShiftedClock(SystemClock):
    """The machine's clock, begun at another time."""

    def __init__(self, start: datetime) -> None:
        self._start, self._began = start, time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._began)

    def micros(self) -> int:
        return micros(self.now())


async def main(state: Path, start: datetime) -> None:
    configure_logging(level="error")
    chance = random.Random(start.timestamp())  # noqa: S311 - the same chances for the same start
    tasks = Tasks("writer")
    tenant = make_tenant(state, "edge", quotas=QUOTAS)
    snapshot = make_snapshot(tenant)
    meter = Metering(state_dir=state, clock=ShiftedClock(start), tasks=tasks, metrics=Metrics())
    await meter.start()
    os.write(1, b"ready\n")

    async def calls(worker: int) -> None:
        for number in range(1_000_000):
            name = RequestId(f"r{start.timestamp()}-{worker}-{number}")
            most = chance.randrange(1, 60)
            try:
                held = await meter.reserve(tenant, snapshot, Call(name, "demo", most, most))
            except QuotaExceeded:
                os.write(1, b"refused\n")
                await asyncio.sleep(0.005)
                continue
            await asyncio.sleep(chance.random() * 0.02)
            used = TokenCounts(input=chance.randrange(most + 1), output=chance.randrange(most + 1))
            await held.settle(used, outcome="ok")
            day = datetime.fromtimestamp(held.started / 1e6, start.tzinfo).date()
            os.write(1, f"acked {day} {used.total}\n".encode())

    await asyncio.gather(*(calls(worker) for worker in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2])))
