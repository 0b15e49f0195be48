"""Security 3.6 and 10.3 where cgroups hold: run by `test_s10_controllers` in a kernel that has all controllers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from carrel.sandbox.protocol import Outcome
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.groups import delegated
from tests.fakes.patience import PATIENCE, soon
from tests.fakes.sandboxed import (
    LAUNCH_UID,
    InPodman,
    InRuncContainer,
    InWorker,
    reachable,
    shell,
    workspace_tenant,
)

MIB = 1 << 20
TIME: Final[dict[str, Any]] = {"wall_seconds": 120.0}
FILL = "python3 -I -S -c 'import time; x = bytearray({0} << 20); x[::4096] = bytes(len(x[::4096])); {1}'"
"""Memory that is really touched, so many MiB of it, and what comes then."""


FORKS = """
import os, time
try:
    for _ in range(80):
        if os.fork() == 0:
            time.sleep(600)
except BlockingIOError:
    print("refused")
"""


class Ground:
    """Two tenants, and a runner whose sandboxes are in groups."""

    def __init__(self, path: Path, groups: Path, runner: BwrapSandbox) -> None:
        self.hostile, self.quiet = (workspace_tenant(path, name) for name in ("hostile", "quiet"))
        self.groups = groups
        self.runner = runner

    async def beside(self, hostile: "asyncio.Future[Outcome]") -> Outcome:
        """What came of the hostile run, while a quiet tenant's runs went on undisturbed."""
        rounds = 0
        while not rounds or (not hostile.done() and rounds < 3):
            done = await self.runner.run(self.quiet, shell("echo fine", wall_seconds=60))
            assert (done.stdout, done.killed) == (b"fine\n", None), done
            rounds += 1
        return await hostile

    async def hostile_run(self, command: str, **limits: Any) -> Outcome:
        return await self.beside(asyncio.ensure_future(self.run(self.hostile, command, **limits)))

    async def run(self, tenant: Tenant, command: str, **limits: Any) -> Outcome:
        return await self.runner.run(tenant, shell(command, **TIME | limits))


@asynccontextmanager
async def standing(runner: type[BwrapSandbox]) -> AsyncIterator[Ground]:
    with reachable() as path, delegated() as groups:
        made = Ground(path, Path(groups.path), runner(launch_uid=LAUNCH_UID, groups=groups))
        yield made
        await made.runner.close()
        for tenant in (made.hostile, made.quiet):
            tenant.root.close()


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with standing(BwrapSandbox) as made:
        yield made


@pytest.fixture
async def in_worker() -> AsyncIterator[Ground]:
    async with standing(InWorker) as made:
        yield made


async def test_S3_06_the_controllers_hold_and_are_said_to(ground: Ground) -> None:
    await ground.run(ground.quiet, "true")
    said = {one.limit: (one.by, one.scope) for one in ground.runner.mechanisms()}
    assert said["memory"] == ("cgroup, and rlimit for each process", "sandbox")
    assert said["pids"][0].startswith("cgroup")
    assert said["tenant_memory"] == said["tenant_cpus"] == ("cgroup", "tenant")


async def test_S3_06_memory_is_that_of_the_whole_tree(ground: Ground) -> None:
    # Each of the four is within the limit that a process has; together they are over the sandbox's.
    crowd = " & ".join([FILL.format(30, "time.sleep(60)")] * 4)
    done = await ground.hostile_run(f"{crowd} & wait", memory_bytes=90 * MIB)
    assert (done.killed, done.signal) == ("memory", 9)
    within = await ground.run(ground.hostile, f"{FILL.format(30, '')} && echo fits", memory_bytes=90 * MIB)
    assert within.stdout == b"fits\n"


async def test_S3_06_what_is_written_to_tmp_and_shm_is_memory(ground: Ground) -> None:
    write = "head -c {0}M /dev/zero > {1}/f && echo written"
    over = await ground.hostile_run(write.format(80, "/tmp"), memory_bytes=60 * MIB, tmp_bytes=200 * MIB)
    assert over.killed == "memory"
    over = await ground.hostile_run(write.format(60, "/dev/shm"), memory_bytes=40 * MIB)
    assert over.killed == "memory"
    within = await ground.run(ground.hostile, write.format(30, "/tmp"), memory_bytes=60 * MIB)
    assert within.stdout == b"written\n"


async def test_S3_06_processes_are_bounded_and_the_refusal_is_known(ground: Ground) -> None:
    done = await ground.hostile_run(f"python3 -I -S -c '{FORKS}'", pids=40)
    assert (done.stdout, done.killed) == (b"refused\n", None), done
    assert done.refused_forks > 0
    crowd = "for i in 1 2 3 4 5 6 7 8; do sleep 0.1 & done; wait; echo all"
    within = await ground.run(ground.hostile, crowd, pids=40)
    assert (within.stdout, within.refused_forks) == (b"all\n", 0)


async def test_S10_03_the_sum_of_a_tenant_is_capped_and_it_dies_of_its_own(ground: Ground) -> None:
    limits = {"memory_bytes": 200 * MIB, "tenant_memory_bytes": 100 * MIB}
    small = asyncio.ensure_future(
        ground.run(ground.hostile, "echo begun; read -t 30 _ < <(sleep 30); echo lived", **limits)
    )
    done = await ground.hostile_run(FILL.format(150, ""), **limits)
    assert done.killed == "tenant_memory"
    small.cancel()
    await asyncio.gather(small, return_exceptions=True)
    fits = await ground.run(ground.quiet, f"{FILL.format(150, '')} && echo fits", memory_bytes=200 * MIB)
    assert fits.stdout == b"fits\n"


async def test_S10_03_a_machine_short_of_memory_ends_the_sandbox_and_says_so(ground: Ground) -> None:
    flood = "python3 -I -S -c 'x = [bytes([1]) * (20 << 20) for _ in range(400)]'"
    done = await ground.run(ground.hostile, flood, memory_bytes=8 << 30)
    assert done.killed == "machine_memory"
    assert (await ground.run(ground.quiet, "echo fine")).stdout == b"fine\n"


async def test_S10_03_processors_are_shared_by_weight_and_capped(ground: Ground) -> None:
    shown = asyncio.Event()
    spin = shell("echo begun; while :; do :; done", weight=300, tenant_cpus=0.2, cpus=0.5, cpu_seconds=600)
    running = asyncio.ensure_future(ground.runner.run(ground.hostile, spin, on_output=lambda _: shown.set()))
    await soon(shown.wait())
    tenant = ground.groups / "tenants" / "hostile"
    assert (tenant / "cpu.weight").read_text() == "300\n"
    assert (tenant / "cpu.max").read_text() == "20000 100000\n"
    (leaf,) = tenant.glob("s-*")
    assert (leaf / "cpu.max").read_text() == "50000 100000\n"
    async with asyncio.timeout(PATIENCE):
        while "nr_throttled 0\n" in (tenant / "cpu.stat").read_text():
            assert (await ground.run(ground.quiet, "echo fine")).stdout == b"fine\n"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_S3_06_in_a_kept_sandbox_the_command_over_its_memory_dies_alone(in_worker: Ground) -> None:
    limits = {"memory_bytes": 150 * MIB}
    left = await in_worker.run(in_worker.hostile, "setsid sleep 600 > /dev/null 2>&1 & echo $!", **limits)
    over = await in_worker.run(
        in_worker.hostile, " & ".join([FILL.format(60, "time.sleep(60)")] * 4) + " & wait", **limits
    )
    assert (over.killed, over.signal) == ("memory", 9)
    pid = left.stdout.decode().strip()
    after = await in_worker.run(in_worker.hostile, f"kill -0 {pid} && echo lives", **limits)
    assert after.stdout == b"lives\n", after


@pytest.mark.parametrize("runner", [InRuncContainer, InPodman])
async def test_S3_06_a_container_is_in_its_group_from_its_beginning(runner: type[BwrapSandbox]) -> None:
    async with standing(runner) as ground:
        # Each of the processes is within the limit that one has; together they are over the sandbox's, podman's part
        # included. A runtime that makes a group of its own, where it may, would take them out of it.
        crowd = " & ".join([FILL.format(60, "time.sleep(60)")] * 4)
        over = await ground.run(ground.hostile, f"{crowd} & wait", memory_bytes=100 * MIB)
        assert (over.killed, over.signal) == ("memory", 9), over
        fits = await ground.run(ground.hostile, f"{FILL.format(30, '')} && echo fits", memory_bytes=100 * MIB)
        assert fits.stdout == b"fits\n", fits
        await ground.runner.close()
        assert [one for one in (ground.groups / "tenants").iterdir() if one.is_dir()] == []


async def test_S3_06_nothing_is_left_of_a_group(ground: Ground) -> None:
    await asyncio.gather(*(ground.run(ground.hostile, "true") for _ in range(5)))
    await ground.runner.close()
    assert [one for one in (ground.groups / "tenants").iterdir() if one.is_dir()] == []
