"""How fast the ledger takes rows: ``python -m tests.bench.ledger [--seconds N] [--json]``.

Three ways on one disk, one after the other: one row a transaction into SQLite (WAL, synchronous=FULL), one writer of
the meter, and 64 of them. A writer holds a call, settles it, and goes on once the row is on the disk; what is timed is
the settling. At the end every row that was acknowledged is counted in the ledgers.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import apsw
import uvloop

from carrel.clock import SystemClock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.metering.protocol import Call
from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.store.sqlite import open_database
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from tests.fakes.tenants import make_snapshot, make_tenant

WRITERS: Final = 64
SWITCH_SECONDS: Final = 0.0005
"""As the gateway sets it."""
USED: Final = TokenCounts(input=100, output=20)


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows a second, and how long one took to be on the disk, in milliseconds."""

    what: str
    rows: int
    rate: float
    p50_ms: float
    p99_ms: float


def pace(what: str, took: list[float], seconds: float) -> Pace:
    """The figures of one way."""
    took.sort()
    count = len(took)
    return Pace(what, count, count / seconds, took[count // 2] * 1000, took[count * 99 // 100] * 1000)


def single_rows(home: Path, seconds: float) -> Pace:
    """One row a transaction."""

    def schema(connection: apsw.Connection) -> None:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS calls(id TEXT PRIMARY KEY, model TEXT, tokens INTEGER, usd TEXT)"
        )

    connection = open_database(home / "single.sqlite", schema=schema)
    took: list[float] = []
    end = time.perf_counter() + seconds
    began = time.perf_counter()
    while (now := time.perf_counter()) < end:
        connection.execute("INSERT INTO calls VALUES (?, 'demo', 120, '0.00014')", (f"{len(took):028x}",))
        took.append(time.perf_counter() - now)
    connection.close()
    return pace("one row a transaction", took, time.perf_counter() - began)


async def metered(home: Path, writers: int, seconds: float) -> Pace:
    """``writers`` at once, over eight tenants."""
    tasks = Tasks("bench")
    tenants = [make_tenant(home, f"t{number}") for number in range(8)]
    snapshot = make_snapshot(*tenants)
    meter = Metering(state_dir=home, clock=SystemClock(), tasks=tasks, metrics=Metrics())
    await meter.start()
    took: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def write(number: int) -> None:
        count = 0
        while time.perf_counter() < end:
            call = Call(RequestId(f"r{number}-{count}"), "demo", 200, 50)
            held = await meter.reserve(tenants[number % len(tenants)], snapshot, call)
            at = time.perf_counter()
            await held.settle(USED, outcome="ok")
            took.append(time.perf_counter() - at)
            count += 1

    await asyncio.gather(*(write(number) for number in range(writers)))
    lasted = time.perf_counter() - began
    period = parse_period("current-month", SystemClock().now())
    rows = [await meter.report(tenant, period) for tenant in tenants]
    kept = sum(row.tokens_out for some in rows for row in some) // USED.output
    if kept != len(took):
        raise SystemExit(f"{len(took)} rows were acknowledged and {kept} are in the ledgers")
    await meter.close()
    await tasks.close()
    for tenant in tenants:
        tenant.root.close()
    return pace(f"{writers} writer{'s' if writers > 1 else ''}", took, lasted)


def main() -> None:
    """Measure the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    configure_logging(level="error")
    sys.setswitchinterval(SWITCH_SECONDS)
    with tempfile.TemporaryDirectory(prefix="carrel-ledger-") as made:
        found = [single_rows(Path(made), args.seconds)]
        for writers in (1, WRITERS):
            home = Path(made) / f"w{writers}"
            home.mkdir()
            found.append(uvloop.run(metered(home, writers, args.seconds)))
    if args.json:
        json.dump([asdict(one) for one in found], sys.stdout)
        return
    for one in found:
        sys.stdout.write(f"{one.what}: {one.rate:,.0f} rows/s, p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms\n")
    sys.stdout.write(f"{WRITERS} writers against one row a transaction: {found[2].rate / found[0].rate:.1f} times\n")


if __name__ == "__main__":
    main()
