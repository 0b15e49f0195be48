"""The journal under kill -9 and on a full disk: what was acknowledged is there once, what was begun is not lost."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.errors import StorageFull
from carrel.metering.journal import SPARES, Journal
from carrel.metering.rows import Tariff
from carrel.metering.segment import Segment, read_lines
from carrel.metering.service import Metering
from carrel.policy.periods import parse_period
from carrel.policy.pricing import price_of
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.ledger_writer import TENANTS
from tests.fakes.patience import until
from tests.fakes.tenants import make_snapshot, make_tenant
from tests.unit.metering.harness import USED, Bench, bench

KILLS = 1000 if os.environ.get("CARREL_TEST_LONG") else 10
RATES = make_snapshot().rate_card.models["demo"]
TARIFF = Tariff(1, price_of(RATES, make_snapshot().rate_card.markup), "c" * 64)


def run_and_kill(state: Path, seed: int) -> tuple[set[str], set[str]]:
    """Let the writer run for as many lines as the seed chooses, and a moment; what it was told before it was killed."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.ledger_writer", str(state), str(seed)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    os.set_blocking(writer.stdout.fileno(), False)
    chance = random.Random(seed)  # noqa: S311 - the same for the same seed
    lines_first, more = chance.randrange(2000), chance.uniform(0, 0.02)
    said = bytearray()

    def has_said() -> bool:
        said.extend(writer.stdout.read() or b"")  # type: ignore[union-attr] # it is there
        return said.count(b"\n") >= lines_first

    assert until(has_said, pause=0.002)
    time.sleep(more)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    os.set_blocking(writer.stdout.fileno(), True)
    said += writer.stdout.read()
    writer.stdout.close()
    lines = [line.split() for line in said.decode().splitlines() if line.count(" ") == 1]
    return {n for what, n in lines if what == "begun"}, {n for what, n in lines if what == "acked"}


async def outcomes(state: Path) -> dict[str, list[str]]:
    """The outcomes of all rows by request id, of every tenant."""
    clock, tasks = SystemClock(), Tasks("test")
    meter = Metering(state_dir=state, clock=clock, tasks=tasks, metrics=Metrics())
    await meter.start()
    found: dict[str, list[str]] = {}
    for name in TENANTS:
        tenant = make_tenant(state, name)
        period = parse_period("yesterday", clock.now())
        period = parse_period(f"{period.first}..{clock.now().date()}", clock.now())
        cursor, calls = None, 0
        while True:
            rows, cursor = await meter.rows(tenant, period, cursor=cursor, limit=1000)
            calls += len(rows)
            for row in rows:
                found.setdefault(row.request_id, []).append(row.outcome)
            if cursor is None:
                break
        sums = await meter._book.sums(tenant.id, period)
        assert sum(total.calls for total in sums.values()) == calls
        tenant.root.close()
    await meter.close()
    await tasks.close()
    return found


async def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    begun: set[str] = set()
    acked: set[str] = set()
    for seed in range(KILLS):
        first, second = await asyncio.to_thread(run_and_kill, tmp_path, seed)
        begun |= first
        acked |= second
    found = await outcomes(tmp_path)
    assert len(acked) > KILLS
    assert not {name: what for name, what in found.items() if len(what) != 1}
    assert not {name for name in acked if found.get(name) != ["ok"]}
    assert not begun - set(found)
    assert Counter(what for [what] in found.values())["interrupted"] > 0
    assert not list((tmp_path / "metering").glob("*.journal"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB, which only root can mount."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(where)], capture_output=True, check=False
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("mounting a file system takes root")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def calls_without_end(b: Bench) -> None:
    for n in range(100, 100_000):
        await b.call(n)
        if not n % 50:
            await b.meter.flush()


async def test_a_full_disk_refuses_new_calls_and_loses_none(small_disk: Path) -> None:
    async with bench(small_disk, segment_bytes=64 * 1024) as b:
        await b.call(1)
        await b.meter.flush()
        in_flight = [await b.hold(n) for n in range(2, 40)]
        ballast = fill(small_disk)
        for held in in_flight:
            await held.settle(USED, outcome="ok")
        # The ledger's log may still have room for these rows; sooner or later it has none.
        with pytest.raises(StorageFull):
            await calls_without_end(b)
        refused_at = len(await b.rows())
        with pytest.raises(StorageFull):
            await b.hold(5000)
        [today] = await b.meter.report(b.tenant, b.period("today"))
        ballast.unlink()
        await b.meter.flush()
        await b.call(6000)
        [after] = await b.meter.report(b.tenant, b.period("today"))
        rows = await b.rows()
        assert after.tokens_in == today.tokens_in + 12
        assert len({row.request_id for row in rows}) == len(rows)
        assert len(rows) >= min(refused_at, 999)


async def test_a_start_on_a_full_disk_reads_and_refuses(small_disk: Path) -> None:
    async with bench(small_disk, segment_bytes=64 * 1024) as b:
        await b.call(1)
    ballast = fill(small_disk)
    async with bench(small_disk, segment_bytes=64 * 1024) as b:
        with pytest.raises(StorageFull):
            await b.hold(2)
        with pytest.raises(StorageFull):
            await b.hold(3)
        ballast.unlink()
        await b.call(3)
        assert [row.request_id for row in await b.rows()] == ["req_1", "req_3"]


async def test_lines_survive_in_their_order_and_a_torn_one_ends_the_file(tmp_path: Path) -> None:
    tasks = Tasks("test")
    journal = Journal(tmp_path, clock=FakeClock(), tasks=tasks, segment_bytes=4096)
    await journal.prepare()
    await journal.open("a", b"R\ta", TARIFF)
    number, waiter = journal.settle("a", b"S\ta")
    assert number == 1
    assert waiter is not None
    await waiter
    await journal.open("b", b"R\tb", TARIFF)
    [path] = tmp_path.iterdir()
    lines = list(read_lines(path))
    assert lines == [TARIFF.line(), b"R\ta", b"S\ta", b"R\tb"]
    data = bytearray(path.read_bytes())
    data[data.index(b"S\ta")] = ord("X")
    path.write_bytes(data)
    assert list(read_lines(path)) == lines[:2]
    await journal.close()
    await tasks.close()


async def test_what_is_open_goes_with_it_into_the_next_file(tmp_path: Path) -> None:
    tasks = Tasks("test")
    journal = Journal(tmp_path, clock=FakeClock(), tasks=tasks, segment_bytes=4096)
    await journal.prepare()
    await journal.open("old", b"R\told", TARIFF)
    for n in range(200):
        await journal.open(f"k{n}", b"R\t" + b"x" * 50, TARIFF)
        number, waiter = journal.settle(f"k{n}", b"S\t" + b"y" * 50)
        assert waiter is not None
        await waiter
        journal.applied([number])
    await journal.tidy()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) <= 2
    assert any(b"R\told" in read_lines(path) for path in paths)
    assert journal.open_calls == 1
    await journal.close()
    assert any(b"R\told" in read_lines(path) for path in tmp_path.iterdir())
    await tasks.close()


async def test_more_calls_in_flight_than_a_file_was_made_for(tmp_path: Path) -> None:
    tasks = Tasks("test")
    journal = Journal(tmp_path, clock=FakeClock(), tasks=tasks, segment_bytes=4096)
    await journal.prepare()
    await asyncio.gather(*(journal.open(f"k{n}", b"R\t%d" % n, TARIFF) for n in range(500)))
    waiters = [journal.settle(f"k{n}", b"S\t" + b"z" * 500)[1] for n in range(500)]
    await asyncio.gather(*(waiter for waiter in waiters if waiter is not None))
    lines = [line for path in tmp_path.iterdir() for line in read_lines(path)]
    assert sum(line.startswith(b"S") for line in lines) == 500
    await journal.close()
    await tasks.close()


async def test_of_files_that_fill_no_more_are_kept_than_are_wanted(tmp_path: Path) -> None:
    tasks = Tasks("test")
    journal = Journal(tmp_path, clock=FakeClock(), tasks=tasks, segment_bytes=4096)
    full = [Segment.create(tmp_path / f"full-{n}", 4096) for n in range(3)]
    for count in (SPARES - 1, SPARES, SPARES + 1):
        while len(journal._spares) < count:
            journal._spares.append(Segment.create(tmp_path / f"spare-{len(journal._spares)}", 4096))
        assert len(journal._reusable(full)) == max(SPARES - count, 0)
    for segment in full:
        segment.close()
    await journal.close()
    await tasks.close()
