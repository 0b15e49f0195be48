"""How fast the ledger takes rows: ``python -m tests.bench.ledger [--seconds N] [--json]``.

Four ways on one disk, one after the other, and twice: the ledger's own rows, each in a transaction of its own (WAL,
synchronous=FULL: this is the single-row rate); a bare table of four columns in the same way, for what SQLite alone
could do; one writer of the meter; and 64 of them. A writer holds a call against quotas, settles it, and goes on once
the row is on the disk; what is timed is the settling. At the end every row that was acknowledged is counted in the
ledgers.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import apsw
import uvloop

from carrel.clock import SystemClock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.metering.ledger import apply, open_ledger
from carrel.metering.protocol import Call
from carrel.metering.rows import Row, micros
from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.policy.pricing import price_for
from carrel.store.sqlite import open_database
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from tests.fakes.tenants import make_snapshot, make_tenant

WRITERS: Final = 64
SWITCH_SECONDS: Final = 0.0002
GC_YOUNG: Final = 10_000
"""Both as the gateway sets them."""
USED: Final = TokenCounts(input=100, output=20)


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows a second, how long one took to be on the disk, in milliseconds, and what it took of processors, in µs."""

    what: str
    rows: int
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def pace(what: str, took: list[float], seconds: float, cpu: float) -> Pace:
    """The figures of one way."""
    took.sort()
    count = len(took)
    p50, p99 = took[count // 2] * 1000, took[count * 99 // 100] * 1000
    return Pace(what, count, count / seconds, p50, p99, cpu / count * 1_000_000)


def one_by_one(what: str, write: Callable[[int], object], seconds: float) -> Pace:
    """``write`` called with 0, 1, 2 and so on for ``seconds``."""
    took: list[float] = []
    cpu = time.process_time()
    began = time.perf_counter()
    while (now := time.perf_counter()) < began + seconds:
        write(len(took))
        took.append(time.perf_counter() - now)
    return pace(what, took, time.perf_counter() - began, time.process_time() - cpu)


def ledger_rows(home: Path, seconds: float) -> Pace:
    """The ledger's own rows, one a transaction."""
    tenant = make_tenant(home, "single")
    snapshot = make_snapshot(tenant)
    price = price_for(snapshot.rate_card, "demo", byo=False)
    connection = open_ledger(home, tenant.id)

    def write(number: int) -> None:
        at = micros(SystemClock().now())
        row = Row(
            f"{number:028x}", tenant.id, at, at, f"r{number}", "", "", "", "demo", USED, 0, price.cost(USED),
            price.snapshot, snapshot.rate_card_hash, "ok", False, False,
        )  # fmt: skip
        apply(connection, [row.values])

    found = one_by_one("a row of the ledger a transaction", write, seconds)
    connection.close()
    tenant.root.close()
    return found


def bare_rows(home: Path, seconds: float) -> Pace:
    """A bare table's rows, one a transaction."""

    def schema(connection: apsw.Connection) -> None:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS calls(id TEXT PRIMARY KEY, model TEXT, tokens INTEGER, usd TEXT)"
        )

    connection = open_database(home / "bare.sqlite", schema=schema)
    insert = "INSERT INTO calls VALUES (?, 'demo', 120, '0.00014')"
    found = one_by_one(
        "a bare row a transaction", lambda number: connection.execute(insert, (f"{number:028x}",)), seconds
    )
    connection.close()
    return found


async def metered(home: Path, writers: int, seconds: float) -> Pace:
    """``writers`` at once, over eight tenants."""
    tasks = Tasks("bench")
    tenants = [make_tenant(home, f"t{number}") for number in range(8)]
    snapshot = make_snapshot(*tenants)
    meter = Metering(state_dir=home, clock=SystemClock(), tasks=tasks, metrics=Metrics())
    await meter.start()
    took: list[float] = []
    cpu = time.process_time()
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
    lasted, cpu = time.perf_counter() - began, time.process_time() - cpu
    period = parse_period("current-month", SystemClock().now())
    rows = [await meter.report(tenant, period) for tenant in tenants]
    kept = sum(row.tokens_out for some in rows for row in some) // USED.output
    if kept != len(took):
        raise SystemExit(f"{len(took)} rows were acknowledged and {kept} are in the ledgers")
    await meter.close()
    await tasks.close()
    for tenant in tenants:
        tenant.root.close()
    return pace(f"{writers} writer{'s' if writers > 1 else ''}", took, lasted, cpu)


def main() -> None:
    """Measure the four, twice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    configure_logging(level="error")
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 10, 10)
    found: list[Pace] = []
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="carrel-ledger-") as made:
            homes = [Path(made) / name for name in ("rows", "one", "many")]
            for home in homes:
                home.mkdir()
            found += (ledger_rows(homes[0], args.seconds), bare_rows(homes[0], args.seconds))
            found += (
                uvloop.run(metered(home, n, args.seconds)) for home, n in zip(homes[1:], (1, WRITERS), strict=True)
            )
    if args.json:
        json.dump([asdict(one) for one in found], sys.stdout)
        return
    for one in found:
        sys.stdout.write(
            f"{one.what}: {one.rate:,.0f} rows/s, p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, "
            f"{one.cpu_us:.0f} us of CPU a row\n"
        )
    for single, bare, _, many in (found[:4], found[4:]):
        sys.stdout.write(
            f"{WRITERS} writers: {many.rate / single.rate:.1f} times a row of the ledger a transaction, "
            f"{many.rate / bare.rate:.1f} times a bare one\n"
        )


if __name__ == "__main__":
    main()
