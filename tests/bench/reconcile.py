"""How long reconciling takes: ``python -m tests.bench.reconcile [--json] [--tenants N ...]``.

Cold without a cache: a first start, directories made and everything written down. Cold with it: a start again. No
change: comparing signatures of all files and overlays. One edit: from the write's end to the published snapshot. Stall:
the longest that the event loop was away while a tenth of the files, 1,000 at most, came into force at once, beside the
longest without any change; what a machine that is busy otherwise adds is in both.
"""

import argparse
import asyncio
import json
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from carrel.clock import SystemClock
from carrel.reconcile.reconciler import Reconciler
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory

GATEWAY = """\
providers: {demo: {kind: demo}}
models:
  demo: {provider: demo, context_window: 32768, max_output: 4096}
default_model: demo
defaults: {quotas: {requests_per_second: 50}}
"""
TENANT = """\
# yaml-language-server: $schema=../docs/reference/schema/tenant.json
display_name: Tenant number {number}
plan: pro
agents:
  main:
    model: demo
    max_tokens: 2048
    system_prompt: |
      You help the people of tenant {number} with their data.
      Say what you did.
  reader:
    tools: [file_read, file_list, file_search]
packages: [python3, ripgrep, jq]
quotas:
  tokens_per_day: {number}000
  cost_per_day_usd: {{hard: 20.00, soft: 15.00}}
tokens:
  - name: ci
    sha256: {number:064x}
    scopes: [chat]
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Seconds but where the name says otherwise."""

    tenants: int
    cold: float
    cold_with_cache: float
    no_change: float
    edit_p50_ms: float
    edit_p99_ms: float
    rss_mb: float
    push_seconds: float
    push_stall_ms: float
    idle_stall_ms: float
    cold_cpu: float
    cold_with_cache_cpu: float
    no_change_cpu: float


def declare(directory: Path, tenants: int) -> None:
    directory.mkdir()
    (directory / "_gateway.yaml").write_text(GATEWAY)
    (directory / "_rate-card.yaml").write_text("markup: 1.20\nmodels: {demo: {input: 1.00, output: 2.00}}\n")
    (directory / "_plans.yaml").write_text("plans: {pro: {quotas: {requests_per_minute: 300}}}\n")
    (directory / "_allowlists.yaml").write_text("packages: {names: [python3, ripgrep, jq, git]}\n")
    for number in range(1, tenants + 1):
        (directory / f"t{number:05}.yaml").write_text(TENANT.format(number=number))


@dataclass(frozen=True, slots=True, order=True)
class Spent:
    """Seconds that passed, and those that a processor worked for this process: a busy machine is in the first alone."""

    passed: float
    worked: float


async def timed(work: Callable[[], Awaitable[object]]) -> Spent:
    started, worked = time.perf_counter(), time.process_time()
    await work()
    return Spent(time.perf_counter() - started, time.process_time() - worked)


async def cold(home: Path) -> Spent:
    tasks = Tasks("bench")
    one = reconciler(home, Directory(), tasks)
    spent = await timed(one.load)
    await tasks.close()
    await one.close()
    return spent


def reconciler(home: Path, directory: Directory, tasks: Tasks) -> Reconciler:
    return Reconciler(
        tenants_dir=home / "tenants.d", state_dir=home / "state", directory=directory, clock=SystemClock(), tasks=tasks
    )


async def edits(directory: Directory, home: Path, tenants: int, count: int) -> list[float]:
    """Seconds from the end of each write to the snapshot that holds it."""
    found = []
    for turn in range(count):
        number = 1 + (turn * 7919) % tenants
        path = home / "tenants.d" / f"t{number:05}.yaml"
        name = f"Edited {turn} of a tenant of that number"
        text = TENANT.format(number=number).replace(f"Tenant number {number}", name)
        before = directory.current
        path.write_text(text)
        started = time.perf_counter()
        while directory.current is before:
            await asyncio.sleep(0.0002)
            if time.perf_counter() - started > 10:
                raise RuntimeError("the edit never came into force")
        found.append(time.perf_counter() - started)
        await asyncio.sleep(0.02)
    return found


async def longest_gap(work: Callable[[], Awaitable[object]]) -> float:
    """The longest that the loop was away from a ticker, in seconds, while ``work`` was awaited."""
    longest, running = 0.0, True

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while running:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticker = asyncio.create_task(tick())
    try:
        await work()
    finally:
        running = False
        await ticker
    return longest


def push(home: Path, tenants: int) -> None:
    """Change a tenth of the files, as an export of a push does it: each whole at once."""
    for number in range(1, min(1000, max(1, tenants // 10)) + 1):
        path = home / "tenants.d" / f"t{number:05}.yaml"
        other = path.with_name(f".{path.name}.new")
        other.write_text(TENANT.format(number=number).replace("Tenant number", "Pushed tenant"))
        other.replace(path)


async def measure(home: Path, tenants: int, count: int) -> Result:
    declare(home / "tenants.d", tenants)
    first = await cold(home)
    again = min([await cold(home) for _ in range(2)])
    directory, tasks = Directory(), Tasks("bench")
    one = reconciler(home, directory, tasks)
    await one.load()
    no_change = statistics.median_low([await timed(one.reconcile_now) for _ in range(5)])
    watching = tasks.start(one.watch(), name="watch")
    await asyncio.sleep(1.0)
    spent = sorted(await edits(directory, home, tenants, count))
    watching.cancel()
    await asyncio.to_thread(push, home, tenants)
    started = time.perf_counter()
    stall = await longest_gap(one.reconcile_now)
    pushed = time.perf_counter() - started
    idle = await longest_gap(lambda: asyncio.sleep(pushed))
    await tasks.close()
    await one.close()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    p50, p99 = spent[len(spent) // 2] * 1000, spent[int(len(spent) * 0.99)] * 1000
    return Result(
        tenants, first.passed, again.passed, no_change.passed, p50, p99, rss, pushed, stall * 1000, idle * 1000,
        first.worked, again.worked, no_change.worked,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tenants", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--edits", type=int, default=100)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    results = []
    for tenants in options.tenants:
        with tempfile.TemporaryDirectory() as home:
            results.append(asyncio.run(measure(Path(home), tenants, options.edits)))
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))  # noqa: T201 - the report
        return
    print(  # noqa: T201 - the report
        "tenants  cold s  cached s  no change ms  edit p50 ms  edit p99 ms  peak MB  push s  stall ms  idle ms"
        "  CPU: cold s  cached s  no change ms"
    )
    for r in results:
        print(  # noqa: T201 - the report
            f"{r.tenants:7}  {r.cold:6.2f}  {r.cold_with_cache:8.2f}  {r.no_change * 1000:12.1f}"
            f"  {r.edit_p50_ms:11.1f}  {r.edit_p99_ms:11.1f}  {r.rss_mb:7.0f}"
            f"  {r.push_seconds:6.2f}  {r.push_stall_ms:8.1f}  {r.idle_stall_ms:7.1f}"
            f"  {r.cold_cpu:11.2f}  {r.cold_with_cache_cpu:8.2f}  {r.no_change_cpu * 1000:12.1f}"
        )


if __name__ == "__main__":
    main()
