"""The real runner: what comes back, how limits end a command, what cancellation leaves behind."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from carrel.errors import SandboxUnavailable, TooLarge
from carrel.sandbox.protocol import Job, Outcome
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.patience import eventually
from tests.fakes.running import running
from tests.fakes.sandboxed import USR, shell


def descendants() -> list[str]:
    """Command lines of this process's descendants and of orphans with a sandbox's uid."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def of_sandboxes(launcher: int | None) -> list[str]:
    """Command lines of the launcher's children but for those that wait for a sandbox, which are forks of it."""

    def words(process: int | str | None) -> str:
        try:
            return Path(f"/proc/{process}/cmdline").read_text()
        except FileNotFoundError:
            return ""

    found = [words(child) for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
    return [line for line in found if line not in ("", words(launcher))]


async def test_a_fork_bomb_in_one_leaves_another_its_processes(runner: BwrapSandbox, tenant: Tenant) -> None:
    bomb = asyncio.ensure_future(runner.run(tenant, shell(":(){ :|:& };:; sleep 5", pids=64, wall_seconds=3)))
    await asyncio.sleep(0.5)
    done = await runner.run(tenant, shell("for i in $(seq 20); do sleep 0.1 & done; wait; echo fine", pids=64))
    assert (done.stdout, done.exit_code) == (b"fine\n", 0)
    await bomb


async def test_a_sandbox_that_somebody_kills_is_told_as_lost_and_not_as_never_made(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    running_now = asyncio.ensure_future(runner.run(tenant, shell("echo begun; touch here; sleep 331.4")))
    await eventually(lambda: running("sleep", "331.4", "bash") and not _waits(tenant))
    os.kill(min(running("bwrap", "331.4")), signal.SIGKILL)
    done = await running_now
    assert (done.killed, done.exit_code, done.stdout) == ("launcher_lost", None, b"begun\n")
    await eventually(lambda: not running("331.4"))
    assert (await runner.run(tenant, shell("echo next"))).stdout == b"next\n"


def _waits(tenant: Tenant) -> bool:
    """Whether its command did not come to the file yet."""
    return "here" not in os.listdir(f"/proc/self/fd/{tenant.root.fd}/sandbox")


async def test_cancelling_at_any_moment_leaves_no_process_and_no_descriptor(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    await runner.run(tenant, shell("true"))
    launcher = runner._link.pid
    before = len(os.listdir("/proc/self/fd"))
    jobs = []
    for number in range(60):
        task = asyncio.ensure_future(runner.run(tenant, shell("sleep 0.05", wall_seconds=0.01 + number % 3)))
        asyncio.get_running_loop().call_later((number % 20) * 0.002, task.cancel)
        jobs.append(task)
    await asyncio.gather(*jobs, return_exceptions=True)
    await eventually(lambda: not of_sandboxes(launcher) and len(os.listdir("/proc/self/fd")) <= before)
    assert of_sandboxes(launcher) == []
    assert len(os.listdir("/proc/self/fd")) <= before
    assert (await runner.run(tenant, shell("echo fine"))).stdout == b"fine\n"


async def test_many_at_once_and_a_tenants_own_limit(runner: BwrapSandbox, tenant: Tenant) -> None:
    began = time.monotonic()
    jobs = [runner.run(tenant, shell("echo $$; sleep 0.2", concurrent=4)) for _ in range(12)]
    done = await asyncio.gather(*jobs)
    assert {d.exit_code for d in done} == {0}
    assert time.monotonic() - began >= 0.6


async def test_a_program_that_is_not_there_is_named(runner: BwrapSandbox, tenant: Tenant) -> None:
    with pytest.raises(SandboxUnavailable, match="no-such"):
        await runner.run(tenant, Job(("/usr/bin/no-such",), shell("").limits, USR))


async def test_what_no_program_can_be_given_is_refused(runner: BwrapSandbox, tenant: Tenant) -> None:
    with pytest.raises(TooLarge, match="write it into a file"):
        await runner.run(tenant, shell("x" * (128 << 10)))
    with pytest.raises(TooLarge, match="NUL"):
        await runner.run(tenant, shell("echo \0"))


async def test_a_machine_without_bubblewrap_is_told_what_to_install(
    runner: BwrapSandbox, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="install the package `bubblewrap`"):
        await runner.run(tenant, shell("true"))


async def test_the_check_runs_a_real_one(runner: BwrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert await runner.check() is None


async def test_the_check_leaves_the_machine_its_memory(runner: BwrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    outcomes, real = [], runner._run_in

    async def run_in(*args: Any, **options: Any) -> Outcome:
        outcomes.append(await real(*args, **options))
        return outcomes[-1]

    monkeypatch.setattr(runner, "_run_in", run_in)
    assert await runner.check() is None
    assert len(outcomes) == 2
    assert max(outcome.memory_bytes or 0 for outcome in outcomes) < 128 << 20
