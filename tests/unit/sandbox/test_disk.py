"""A part of the disk stays free, whoever writes."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.sandbox.disk import DiskWatch, room_at
from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 20 MiB and 2,000 inodes."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with reachable() as path:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=20m,nr_inodes=2000,mode=0711", "none", str(path)], check=True
        )
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


async def test_what_fills_the_disk_is_ended_before_it_is_full(small_disk: Path) -> None:
    tenant = workspace_tenant(small_disk)
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    fill = "i=0; while :; do head -c 100000 /dev/zero > f$i || exit 9; i=$((i+1)); sleep 0.01; done"
    done = await runner.run(tenant, shell(fill, wall_seconds=30))
    assert done.killed == "disk"
    found = os.statvfs(small_disk)
    assert found.f_bavail * found.f_frsize > 0
    many = "rm -f f*; i=0; while :; do : > g$i || exit 9; i=$((i+1)); [ $((i % 5)) != 0 ] || sleep 0.02; done"
    assert (await runner.run(tenant, shell(many, wall_seconds=30))).killed == "disk"
    tidied = await runner.run(tenant, shell("rm -f g*; sleep 0.3; echo tidy > note"))
    assert tidied.exit_code == 0
    await runner.close()
    tenant.root.close()


async def test_where_it_is_short_already_one_may_tidy_and_not_make_it_worse(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(int(19.5 * (1 << 20))))
    tenant = workspace_tenant(small_disk)
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


def test_the_room_is_what_is_free_beyond_what_is_kept(small_disk: Path) -> None:
    fd = os.open(small_disk, os.O_RDONLY)
    try:
        before = room_at(fd)
        assert 0 < before.bytes <= 19 << 20
        assert 0 < before.files < 2000
        (small_disk / "large").write_bytes(b"x" * (before.bytes + 4096))
        assert room_at(fd).bytes <= 0
        for number in range(before.files):
            (small_disk / f"f{number}").touch()
        assert room_at(fd).files <= 0
    finally:
        os.close(fd)
