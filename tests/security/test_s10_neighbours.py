"""Security 10.3: what one tenant can do to what all share."""

import asyncio

from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.disks import fill_up, small_disk
from tests.fakes.patience import eventually, soon
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant


async def test_S10_03_who_fills_the_disk_is_ended_and_another_goes_on_writing() -> None:
    with small_disk() as disk:
        hostile, quiet = (workspace_tenant(disk, name) for name in ("hostile", "quiet"))
        runner = BwrapSandbox(launch_uid=LAUNCH_UID)
        fill_up(disk, but_bytes=400_000)
        fill = "i=0; while :; do head -c 10000 /dev/zero > f$i || exit 9; i=$((i+1)); sleep 0.02; done"
        filling = asyncio.ensure_future(runner.run(hostile, shell(fill, wall_seconds=600)))
        while not filling.done():
            done = await runner.run(quiet, shell("echo note >> notes && wc -l < notes"))
            assert done.exit_code == 0, done.stderr
        assert (await filling).killed == "disk"
        after = await runner.run(quiet, shell("head -c 10000 /dev/zero > last && echo fine"))
        assert after.stdout == b"fine\n"
        await runner.close()
        for tenant in (hostile, quiet):
            tenant.root.close()


async def test_S10_03_so_many_runs_at_a_time_and_another_waits_for_none_of_them() -> None:
    with reachable() as state:
        hostile, quiet = (workspace_tenant(state, name) for name in ("hostile", "quiet"))
        runner = BwrapSandbox(launch_uid=LAUNCH_UID)
        job, begun = shell("echo begun; sleep 3600", concurrent=4, wall_seconds=3600), list[bytes]()
        crowd = [asyncio.ensure_future(runner.run(hostile, job, on_output=begun.append)) for _ in range(40)]
        await eventually(lambda: len(begun) == 4)
        done = await soon(runner.run(quiet, shell("echo fine")))
        assert done.stdout == b"fine\n"
        assert sum(task.done() for task in crowd) == 0
        assert len(begun) == 4
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await runner.close()
        for tenant in (hostile, quiet):
            tenant.root.close()
