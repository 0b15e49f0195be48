"""Security 3.6 and 10.3: every limit passed for real, beside the same just within it, and beside another tenant.

Without cgroups, as on any machine; what they add is in `under_controllers`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from carrel.declare.quotas import Quotas
from carrel.errors import SandboxBusy
from carrel.sandbox.protocol import KillReason
from carrel.sandbox.reasons import ending
from carrel.sandbox.runner import BwrapSandbox
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Tenant
from tests.fakes.patience import soon
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant

MIB = 1 << 20
GROW = "python3 -c 'x = bytearray({0} << 20); print(len(x) >> 20)'"
THREADS = """python3 -c '
import threading, time
for _ in range({0}): threading.Thread(target=time.sleep, args=(0.3,)).start()
print("all")'"""
FILES = """exec python3 -c '
import os
for number in range({0}):
    os.close(os.open(f"/tmp/{{number}}", os.O_CREAT | os.O_WRONLY))
import time
time.sleep(600 if {0} > 1000 else 0)
'"""
OPEN = "python3 -c 'x = [open(\"/dev/null\") for _ in range({0})]; print(len(x))'"


@dataclass(frozen=True)
class Case:
    """A command that passes ``limits``, what tidies up after it, one that stays within, and what is said of the first.

    ``killed`` is None where the kernel refuses what would pass the limit, and the command ends by itself.
    """

    over: str
    within: str
    said: str
    killed: KillReason | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    quotas: dict[str, Any] = field(default_factory=dict)
    tidy: str = "true"


CASES = {
    "memory": Case(
        GROW.format(300), GROW.format(100), "memory is limited to 200 MiB (sandbox.memory_bytes)",
        limits={"memory_bytes": 200 * MIB},
    ),
    "cpu": Case(
        "while :; do :; done", "echo little", "over its 1 s of processor time (sandbox.cpu_seconds)", "cpu",
        limits={"cpu_seconds": 1},
    ),
    "pids": Case(
        THREADS.format(40), THREADS.format(5), "processes and threads are limited to 20 (sandbox.pids)",
        limits={"pids": 20},
    ),
    "open files": Case(
        OPEN.format(60), OPEN.format(20), "open files are limited to 40 (sandbox.open_files)",
        limits={"open_files": 40},
    ),
    "file size": Case(
        "exec head -c 3000000 /dev/zero > f", "head -c 2000000 /dev/zero > f",
        "it wrote a file of over 2 MiB (sandbox.file_size_bytes)", "file_size", limits={"file_size_bytes": 2 * MIB},
    ),
    "file size of a child": Case(
        "head -c 3000000 /dev/zero > f; echo $? >&2; exit 1", "head -c 2000000 /dev/zero > f",
        "files are limited to 2 MiB (sandbox.file_size_bytes)", limits={"file_size_bytes": 2 * MIB},
    ),
    "tmp": Case(
        "head -c 3000000 /dev/zero > /tmp/f", "head -c 1000000 /dev/zero > /tmp/f",
        "/tmp is limited to 2 MiB (sandbox.tmp_bytes)", limits={"tmp_bytes": 2 * MIB},
    ),
    "files in tmp": Case(
        # Empty ones take none of its size, and no rlimit counts what the kernel keeps of them.
        FILES.format(200_000), FILES.format(1000), "that of what is in /tmp included", "memory",
        limits={"memory_bytes": 40 * MIB, "tmp_bytes": MIB},
    ),
    "shm": Case(
        "head -c 70M /dev/zero > /dev/shm/f", "head -c 60M /dev/zero > /dev/shm/f", "/dev/shm to 64 MiB",
    ),
    "wall clock": Case(
        "sleep 600", "sleep 0.1", "over its time of 5 s (sandbox.wall_seconds)", "wall_clock",
        limits={"wall_seconds": 5},
    ),
    "output": Case(
        "yes", "yes | head -c 1000", "that are kept of what is written (sandbox.output_bytes)", "output",
        limits={"output_bytes": 100},
    ),
    "disk": Case(
        "i=0; while :; do head -c 1000000 /dev/zero > d$i; i=$((i+1)); sleep 0.02; done",
        "head -c 4000000 /dev/zero > e && sleep 1",
        "take more of the disk than they may (quotas.disk_bytes)", "disk_quota", quotas={"disk_bytes": 6 * MIB},
        tidy="rm -f d*",
    ),
    "inodes": Case(
        "i=0; while :; do : > d$i; i=$((i+1)); [ $((i % 20)) != 0 ] || sleep 0.05; done",
        "for i in 1 2 3; do : > e$i; done", "hold more files than they may (quotas.disk_files)",
        "inode_quota", quotas={"disk_files": 100},
        tidy="rm -f d*",
    ),
}  # fmt: skip


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def runner(metrics: Metrics) -> AsyncIterator[BwrapSandbox]:
    made = BwrapSandbox(launch_uid=LAUNCH_UID, metrics=metrics)
    yield made
    await made.close()


@pytest.fixture
def state() -> Iterator[Path]:
    with reachable() as path:
        yield path


@pytest.mark.parametrize("name", CASES)
async def test_S3_06_what_is_over_a_limit_ends_alone_with_its_reason(
    runner: BwrapSandbox, metrics: Metrics, state: Path, name: str
) -> None:
    case = CASES[name]
    plain, quiet = workspace_tenant(state, "hostile"), workspace_tenant(state, "quiet")
    quotas = Quotas.model_validate(case.quotas)
    hostile = replace(plain, config=plain.config.model_copy(update={"quotas": quotas}))
    limits: dict[str, Any] = {"wall_seconds": 600} | case.limits
    running = asyncio.ensure_future(runner.run(hostile, shell(case.over, **limits)))
    rounds = 0
    while not running.done() or not rounds:
        done = await runner.run(quiet, shell("echo note >> notes && echo fine"))
        assert (done.stdout, done.killed) == (b"fine\n", None)
        rounds += 1
    over = await running
    assert over.killed == case.killed, over
    assert over.exit_code != 0
    assert case.said in ending(over, shell("", **limits).limits)
    label = f'carrel_sandbox_runs_total{{ending="{case.killed or "failed"}",tenant="hostile"}} 1.0'
    assert label in metrics.render().decode()
    assert (await runner.run(hostile, shell(case.tidy, **limits))).exit_code == 0
    within = await runner.run(hostile, shell(case.within, **limits))
    assert (within.exit_code, within.killed) == (0, None), within
    assert ending(within, shell("", **limits).limits) == "exit code 0"
    close(plain, quiet)


async def test_S10_03_who_is_over_its_number_is_told_and_another_is_not(
    runner: BwrapSandbox, metrics: Metrics, state: Path
) -> None:
    hostile, quiet = workspace_tenant(state, "hostile"), workspace_tenant(state, "quiet")
    shown = asyncio.Event()
    limits: dict[str, Any] = {"concurrent": 1, "queued": 0, "wall_seconds": 600}
    first = asyncio.ensure_future(
        runner.run(hostile, shell("echo begun; sleep 600", **limits), on_output=lambda _: shown.set())
    )
    await soon(shown.wait())
    with pytest.raises(SandboxBusy, match=r"sandbox\.queued"):
        await runner.run(hostile, shell("echo more", **limits))
    assert (await runner.run(quiet, shell("echo fine", **limits))).stdout == b"fine\n"
    assert 'carrel_sandbox_runs_total{ending="busy",tenant="hostile"} 1.0' in metrics.render().decode()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await runner.run(hostile, shell("echo fits", **limits))).stdout == b"fits\n"
    close(hostile, quiet)


def close(*tenants: Tenant) -> None:
    for tenant in tenants:
        tenant.root.close()


async def test_S3_06_what_a_kept_sandbox_holds_in_files_is_its_memory_and_the_next_one_is_whole(
    runner: BwrapSandbox, state: Path
) -> None:
    hostile = workspace_tenant(state, "hostile")
    limits: dict[str, Any] = {"memory_bytes": 40 * MIB, "wall_seconds": 600}
    over = await runner.run(hostile, replace(shell(FILES.format(200_000), **limits), keep="main"))
    assert over.killed == "memory", over
    within = await runner.run(hostile, replace(shell(f"ls /tmp | wc -l; {FILES.format(1000)}", **limits), keep="main"))
    assert (within.stdout, within.killed) == (b"0\n", None), within
    close(hostile)
