"""Quotas are exact where days and months end, with many callers at once, and with kill -9 between holds and rows."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.quota_writer import DAY, MONTH, QUOTAS
from tests.fakes.tenants import make_snapshot, make_tenant

EARLIER, LAST, FIRST = date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def run_and_kill(state: Path, start: datetime, enough: int) -> tuple[Counter[date], int]:
    """Let the writers go on until ``enough`` was told, then kill them; acknowledged tokens by day, and refusals."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.quota_writer", str(state), start.isoformat()],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert writer.stdout is not None
    said = Counter[date]()
    refused = 0
    for told, line in enumerate(writer.stdout, 1):
        words = line.decode().split()
        if len(words) == 3:
            said[date.fromisoformat(words[1])] += int(words[2])
        refused += words == ["refused"]
        if told == enough:
            writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    return said, refused


async def used(state: Path, at: datetime) -> tuple[dict[date, int], dict[str, int]]:
    """Tokens of each day's rows, and what a gateway that starts at ``at`` says is used of each quota."""
    tasks = Tasks("reader")
    tenant = make_tenant(state, "edge", quotas=QUOTAS)
    make_snapshot(tenant)
    meter = Metering(state_dir=state, clock=FakeClock(at), tasks=tasks, metrics=Metrics())
    await meter.start()
    rows = await meter.report(tenant, parse_period(f"{EARLIER}..{FIRST}", at))
    states = {one.name: int(one.used) for one in await meter.quota_status(tenant)}
    held = sum(int(one.reserved) for one in await meter.quota_status(tenant))
    assert held == 0, "nothing is held by calls of a process that is gone"
    await meter.close()
    await tasks.close()
    tenant.root.close()
    days = Counter[date]()
    for row in rows:
        days[row.date] += row.tokens_in + row.tokens_cached + row.tokens_out + row.reasoning_tokens
    return dict(days), states


def test_no_day_and_no_month_is_passed_at_their_ends(tmp_path: Path) -> None:
    acked, refused = Counter[date](), Counter[str]()
    # Each is killed: a day until it is used up, the next until the month is, over the month's end, and behind it.
    for name, start, enough in (
        ("day", MIDNIGHT - timedelta(hours=25), 1000), ("month", MIDNIGHT - timedelta(seconds=30), 100),
        ("month", MIDNIGHT - timedelta(seconds=20), 800), ("over", MIDNIGHT - timedelta(seconds=0.3), 900),
        ("after", MIDNIGHT + timedelta(seconds=30), 900),
    ):  # fmt: skip
        said, no = run_and_kill(tmp_path, start, enough)
        acked += said
        refused[name] += no
    days, states = asyncio.run(used(tmp_path, MIDNIGHT + timedelta(hours=1)))
    assert set(days) == {EARLIER, LAST, FIRST}
    for day, tokens in days.items():
        assert tokens <= DAY, day
        assert acked[day] <= tokens, "what was acknowledged is there"
    month = days[EARLIER] + days[LAST]
    assert month <= MONTH
    # A call holds 118 tokens at most: who is refused finds less than that left, beside what others hold.
    assert min(DAY - days[EARLIER], MONTH - month, DAY - days[FIRST]) >= 0
    assert max(DAY - days[EARLIER], MONTH - month, DAY - days[FIRST]) < 48 * 118
    assert min(refused["day"], refused["month"], refused["after"]) > 0
    assert states["tokens_per_day"] == states["tokens_per_month"] == days[FIRST], "a month that ended is another month"
    _, before = asyncio.run(used(tmp_path, MIDNIGHT - timedelta(hours=1)))
    assert (before["tokens_per_day"], before["tokens_per_month"]) == (days[LAST], month)
