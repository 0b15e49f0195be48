"""S10: a full disk stops changes and not reads; a tenant's ledger is its own."""

import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.errors import StorageFull
from carrel.ids import RequestId
from carrel.metering.protocol import Call
from tests.fakes.tenants import make_tenant
from tests.unit.metering.harness import USED, Bench, bench


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(where)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a file system takes root")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


async def call_until_refused(b: Bench) -> None:
    for number in range(2, 100_000):
        await b.call(number)
        if not number % 20:
            await b.meter.flush()


async def test_S10_01_a_full_disk_stops_calls_and_not_reports(small_disk: Path) -> None:
    async with bench(small_disk, segment_bytes=64 * 1024) as b:
        await b.call(1)
        with (small_disk / "ballast").open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    break
        with pytest.raises(StorageFull):
            await call_until_refused(b)
        before = await b.meter.report(b.tenant, b.period("today"))
        with pytest.raises(StorageFull):
            await b.hold(200_000)
        assert await b.meter.report(b.tenant, b.period("today")) == before
        assert before[0].tokens_in >= 12
        (small_disk / "ballast").unlink()
        await b.meter.flush()
        b.clock.advance(2)
        await b.call(300_000)
        assert (await b.meter.report(b.tenant, b.period("today")))[0].tokens_in == before[0].tokens_in + 12


async def test_S10_03_a_tenants_ledger_is_its_own(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        other = make_tenant(tmp_path, "bravo")
        held = await b.meter.reserve(other, b.snapshot, Call(RequestId("theirs"), "demo", 1, 1))
        await held.settle(USED, outcome="ok")
        await b.call(1)
        assert [row.request_id for row in await b.rows()] == ["req_1"]
        theirs, _ = await b.meter.rows(other, b.period())
        assert [row.request_id for row in theirs] == ["theirs"]
        assert {row.tenant for row in await b.meter.report(b.tenant, b.period())} == {"acme"}
        other.root.close()
    for name in ("acme", "bravo"):
        usage = tmp_path / "tenants" / name / "usage"
        assert stat.S_IMODE(usage.stat().st_mode) == 0o700
