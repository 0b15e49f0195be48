"""A part of the disk stays free, whoever writes."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.sandbox.disk import DiskWatch
from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.disks import FILES, fill_up, room, small_disk
from tests.fakes.sandboxed import LAUNCH_UID, shell, workspace_tenant


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk() as path:
        yield path


async def test_what_fills_the_disk_is_ended_before_it_is_full(disk: Path) -> None:
    tenant = workspace_tenant(disk)
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    fill_up(disk, but_bytes=400_000)
    fill = "i=0; while :; do head -c 20000 /dev/zero > f$i || exit 9; i=$((i+1)); sleep 0.02; done"
    assert (await runner.run(tenant, shell(fill, wall_seconds=600))).killed == "disk"
    found = os.statvfs(disk)
    assert found.f_bavail * found.f_frsize > 0
    assert (await runner.run(tenant, shell("rm -f f*"))).exit_code == 0
    fill_up(disk, but_files=20)
    many = "i=0; while :; do : > g$i || exit 9; i=$((i+1)); sleep 0.02; done"
    assert (await runner.run(tenant, shell(many, wall_seconds=600))).killed == "disk"
    assert os.statvfs(disk).f_favail > 0
    tidied = await runner.run(tenant, shell("rm -f g*; sleep 0.3; echo tidy > note"))
    assert tidied.exit_code == 0
    await runner.close()
    tenant.root.close()


async def test_where_it_is_short_already_one_may_tidy_and_not_make_it_worse(disk: Path) -> None:
    fill_up(disk, but_bytes=-(1 << 20))
    tenant = workspace_tenant(disk)
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    assert (await runner.run(tenant, shell("sleep 0.3; echo fine"))).stdout == b"fine\n"
    await runner.close()
    tenant.root.close()


async def test_it_looks_no_more_once_it_is_stopped(tmp_path: Path) -> None:
    seen: list[int] = []
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    watch = DiskWatch(fd, lambda: seen.append(1))
    watch.start()
    watch.stop()
    os.close(fd)
    await asyncio.sleep(0.15)
    assert seen == []


def test_the_room_is_what_is_free_beyond_what_is_kept(disk: Path) -> None:
    before = room(disk)
    assert 0 < before.bytes <= 122 << 20
    assert 0 < before.files < FILES
    fill_up(disk, but_bytes=-4096)
    assert room(disk).bytes <= 0
    fill_up(disk, but_files=0)
    assert room(disk).files <= 0
