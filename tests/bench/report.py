"""How long reports take over the ledger of a busy year: ``python -m tests.bench.report [--rows N] [--json]``.

The rows are written as a gateway writes them, by the ledger's own code in its own batches, spread over 365 days, six
models at two rate cards, 20 agents, 50 members and a session, of one model, agent and member, for every 25 calls. Then
a month is reported, by the same code that serves `carrel billing`, each time on a connection of its own, the first time
with nothing of the ledger in the kernel's memory. At the end every row is counted anew, which says that the sums are
right.
"""

import argparse
import gc
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import apsw

from carrel.declare.rate_card import LongPrompt, RateCard, Rates, TokenCounts
from carrel.ids import parse_tenant_id
from carrel.metering.invoice import invoice
from carrel.metering.ledger import apply, open_ledger
from carrel.metering.recount import recount
from carrel.metering.report import rows_of, split_rows
from carrel.metering.rollups import Split, by_day, by_split, charged
from carrel.metering.rows import Row, Values, micros
from carrel.policy.periods import parse_period
from carrel.policy.pricing import Price, price_for

TENANT: Final = parse_tenant_id("busy")
BATCH: Final = 2000
GC_YOUNG: Final = 10_000
"""As the gateway sets it."""
FIRST: Final = datetime(2025, 1, 1, tzinfo=UTC)
DAYS: Final = 365
MODELS: Final = tuple(f"model-{number}" for number in range(6))
MONTH: Final = parse_period("2025-07-01..2025-07-31", FIRST)


def cards() -> list[dict[str, Price]]:
    """The prices of the first and of the second half of the year."""
    made = []
    for factor in ("1.20", "1.25"):
        rates = Rates(
            input=Decimal("1.25"), output=Decimal(10), cache_read=Decimal("0.125"),
            long_prompts=(LongPrompt(over_tokens=200_000, input=Decimal("2.5"), output=Decimal(15)),),
        )  # fmt: skip
        card = RateCard(markup=Decimal(factor), models=dict.fromkeys(MODELS, rates))
        made.append({model: price_for(card, model, byo=False) for model in MODELS})
    return made


def rows(count: int) -> Iterator[Row]:
    """``count`` rows in the order of time."""
    chance = random.Random(1)  # noqa: S311 - the same rows each time
    prices = cards()
    step = timedelta(days=DAYS) / count
    for number in range(count):
        at = FIRST + step * number
        session = number // 25
        model = MODELS[session % len(MODELS)]
        half = number * 2 // count
        counts = TokenCounts(
            chance.randrange(100, 8000), chance.randrange(0, 30_000), 0, chance.randrange(10, 2000)
        )  # fmt: skip
        price = prices[half][model]
        started = micros(at)
        yield Row(
            f"{number:028x}", TENANT, started, started + 900_000, f"req_{number:x}", "", f"s-{session:x}",
            f"agent-{session % 20}", model, counts, number % 3, price.cost(counts), price.snapshot, f"{half:064x}",
            "ok", False, False, f"member-{session % 50}", "team", "f" * 64,
        )  # fmt: skip


def write(connection: apsw.Connection, count: int) -> float:
    """Write the rows; the seconds that it took."""
    began = time.perf_counter()
    batch: list[Values] = []
    for number, row in enumerate(rows(count), 1):
        batch.append(row.values)
        if len(batch) == BATCH:
            apply(connection, batch)
            batch = []
        if number % 500_000 == 0:
            sys.stderr.write(f"{number:,} rows, {time.perf_counter() - began:.0f} s\n")
    apply(connection, batch)
    return time.perf_counter() - began


def forget(state: Path) -> None:
    """Make the kernel give back the pages of the ledger that it keeps: what reads it next has it from the disk."""
    for path in (state / "tenants" / TENANT / "usage").iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(state: Path, read: Callable[[apsw.Connection], Any], times: int = 7) -> tuple[float, float, float]:
    """The first and the median time of ``read`` in seconds, each on a connection opened for it, and the median CPU.

    The first finds nothing of the ledger in memory.
    """
    took, cpu = [], []
    forget(state)
    for _ in range(times):
        began, used = time.perf_counter(), time.process_time()
        connection = open_ledger(state, TENANT)
        read(connection)
        connection.close()
        took.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return took[0], sorted(took)[times // 2], sorted(cpu)[times // 2]


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(text + "\n")


def main() -> None:
    """Write, report, count anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    gc.freeze()
    gc.set_threshold(GC_YOUNG, 10, 10)

    def split(by: Split) -> Callable[[apsw.Connection], Any]:
        return lambda ledger: split_rows(TENANT, by_split(ledger, MONTH, by))

    with tempfile.TemporaryDirectory(prefix="carrel-report-") as made:
        state = Path(made)
        (state / "tenants" / TENANT).mkdir(parents=True)
        connection = open_ledger(state, TENANT)
        wrote = write(connection, args.rows)
        connection.close()
        size = sum(path.stat().st_size for path in (state / "tenants" / TENANT / "usage").iterdir())
        found = {
            "by day and model": timed(state, lambda ledger: rows_of(TENANT, by_day(ledger, MONTH))),
            "by agent": timed(state, split("agent")), "by member": timed(state, split("member")),
            "by session": timed(state, split("session")),
            "the invoice": timed(state, lambda ledger: invoice(charged(ledger, MONTH), MONTH)),
        }  # fmt: skip
        ledger = open_ledger(state, TENANT)
        began = time.perf_counter()
        counted = recount(ledger)
        recounted = time.perf_counter() - began
        ledger.close()
    if counted.wrong or counted.calls != args.rows:
        raise SystemExit(f"the sums are wrong: {counted}")
    if args.json:
        told = {"rows": args.rows, "write_seconds": wrote, "bytes": size, "recount_seconds": recounted}
        json.dump(
            {**told, "reports": {name: {"first": a, "median": b, "cpu": c} for name, (a, b, c) in found.items()}},
            sys.stdout,
        )
        return
    say(f"{args.rows:,} rows written in {wrote:.0f} s ({args.rows / wrote:,.0f}/s), {size / (1 << 20):,.0f} MiB")
    for name, (first, median, cpu) in found.items():
        say(f"a month {name}: first {first * 1000:.0f} ms, median {median * 1000:.0f} ms, {cpu * 1000:.0f} ms of CPU")
    say(f"every row counted anew, and right, in {recounted:.0f} s")


if __name__ == "__main__":
    main()
