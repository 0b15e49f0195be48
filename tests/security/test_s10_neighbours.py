"""Security 10.3: what one tenant can do to what all share."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant


@pytest.fixture
def shared_disk() -> Iterator[Path]:
    """A file system of 40 MiB that two tenants are on."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    with reachable() as path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0711", "none", str(path)], check=True)
        try:
            yield path
        finally:
            subprocess.run(["umount", "--lazy", str(path)], check=True)


async def test_S10_03_who_fills_the_disk_is_ended_and_another_goes_on_writing(shared_disk: Path) -> None:
    hostile, quiet = (workspace_tenant(shared_disk, name) for name in ("hostile", "quiet"))
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    fill = "i=0; while :; do head -c 100000 /dev/zero > f$i || exit 9; i=$((i+1)); sleep 0.01; done"
    filling = asyncio.ensure_future(runner.run(hostile, shell(fill, wall_seconds=30)))
    while not filling.done():
        done = await runner.run(quiet, shell("echo note >> notes && wc -l < notes"))
        assert done.exit_code == 0, done.stderr
        await asyncio.sleep(0.05)
    assert (await filling).killed == "disk"
    after = await runner.run(quiet, shell("head -c 100000 /dev/zero > last && echo fine"))
    assert after.stdout == b"fine\n"
    await runner.close()
    for tenant in (hostile, quiet):
        tenant.root.close()


async def test_S10_03_so_many_runs_at_a_time_and_another_waits_for_none_of_them() -> None:
    with reachable() as state:
        hostile, quiet = (workspace_tenant(state, name) for name in ("hostile", "quiet"))
        runner = BwrapSandbox(launch_uid=LAUNCH_UID)
        crowd = [
            asyncio.ensure_future(runner.run(hostile, shell("sleep 1", concurrent=4, wall_seconds=5)))
            for _ in range(40)
        ]
        await asyncio.sleep(0.2)
        done = await runner.run(quiet, shell("echo fine"))
        assert done.stdout == b"fine\n"
        assert sum(task.done() for task in crowd) == 0, "nobody of the crowd had ended by then"
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await runner.close()
        for tenant in (hostile, quiet):
            tenant.root.close()
