"""The real runner: what comes back, how limits end a command, what cancellation leaves behind."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.errors import SandboxUnavailable, TooLarge
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Mount
from tests.fakes.sandboxed import LAUNCH_UID, USR, reachable, shell, workspace_tenant


@pytest.fixture
async def runner() -> AsyncIterator[BwrapSandbox]:
    made = BwrapSandbox(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()


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


async def test_output_codes_and_signals(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("cat; echo err >&2; exit 3", stdin=b"fed"))
    assert (done.exit_code, done.signal, done.stdout, done.stderr, done.killed) == (3, None, b"fed", b"err\n", None)
    done = await runner.run(tenant, shell("kill -SEGV $$"))
    assert (done.exit_code, done.signal) == (None, 11)


async def test_the_workspace_is_kept_and_nothing_else(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, shell("echo kept > file; echo gone > /tmp/file"))
    done = await runner.run(tenant, shell("cat file; cat /tmp/file"))
    assert (done.stdout, done.exit_code) == (b"kept\n", 1)


async def test_a_limit_of_output_keeps_so_much(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("seq 1 1000", output_bytes=100))
    assert (len(done.stdout), done.output_dropped, done.exit_code) == (100, 3893 - 100, 0)
    done = await runner.run(tenant, shell("yes", output_bytes=100))
    assert done.killed == "output"


async def test_a_limit_of_time_kills_the_whole_tree(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.5150"
    command = f"(setsid sh -c 'sleep {mark} & wait' & ) ; (sleep {mark} &) ; sleep {mark}"
    done = await runner.run(tenant, shell(command, wall_seconds=0.5))
    assert done.killed == "wall_clock"
    assert [line for line in descendants() if mark in line] == []


async def test_a_command_that_ends_takes_what_it_started_with_it(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.6160"
    done = await runner.run(tenant, shell(f"setsid sleep {mark} > /dev/null 2>&1 & echo done"))
    assert (done.stdout, done.exit_code) == (b"done\n", 0)
    assert [line for line in descendants() if mark in line] == []


async def test_a_limit_of_processor_time_is_named(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("while :; do :; done", cpu_seconds=1))
    assert done.killed == "cpu"


async def test_memory_processes_files_and_their_size_are_limited(runner: BwrapSandbox, tenant: Tenant) -> None:
    grow = "import sys\ntry: bytearray(300 << 20)\nexcept MemoryError: sys.exit(7)"
    assert (await runner.run(tenant, shell(f"python3 -c '{grow}'", memory_bytes=200 << 20))).exit_code == 7
    assert (await runner.run(tenant, shell(f"python3 -c '{grow}'", memory_bytes=500 << 20))).exit_code == 0
    fork = "for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done 2>/tmp/e; wait; grep -c fork /tmp/e"
    assert (
        b"fork"
        in (await runner.run(tenant, shell("sleep 3 & sleep 3 & sleep 3 & sleep 3 & :", pids=4, wall_seconds=2))).stderr
    )
    assert (await runner.run(tenant, shell(fork, pids=40))).stdout == b"0\n"
    assert (
        await runner.run(tenant, shell("head -c 2000 /dev/zero > f; stat -c %s f", file_size_bytes=1000))
    ).stdout == b"1000\n"
    opened = await runner.run(
        tenant, shell('for i in $(seq 40); do eval "exec $((i+10))</dev/null" || exit 9; done', open_files=32)
    )
    assert opened.exit_code != 0
    full = await runner.run(tenant, shell("head -c 3000000 /dev/zero > /tmp/f; stat -c %s /tmp/f", tmp_bytes=1 << 20))
    assert full.stdout == b"1048576\n"


async def test_a_fork_bomb_in_one_leaves_another_its_processes(runner: BwrapSandbox, tenant: Tenant) -> None:
    bomb = asyncio.ensure_future(runner.run(tenant, shell(":(){ :|:& };:; sleep 5", pids=64, wall_seconds=3)))
    await asyncio.sleep(0.5)
    done = await runner.run(tenant, shell("for i in $(seq 20); do sleep 0.1 & done; wait; echo fine", pids=64))
    assert (done.stdout, done.exit_code) == (b"fine\n", 0)
    await bomb


async def test_cancelling_kills_before_it_returns(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark, shown = f"{os.getpid()}.7170", asyncio.Event()
    job = shell(f"echo begun; sleep {mark}")
    task = asyncio.ensure_future(runner.run(tenant, job, on_output=lambda _: shown.set()))
    await asyncio.wait_for(shown.wait(), 10)
    assert [line for line in descendants() if mark in line]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [line for line in descendants() if mark in line] == []


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
    for _ in range(1500):
        if not of_sandboxes(launcher) and len(os.listdir("/proc/self/fd")) <= before:
            break
        await asyncio.sleep(0.02)
    assert of_sandboxes(launcher) == []
    assert len(os.listdir("/proc/self/fd")) <= before
    assert (await runner.run(tenant, shell("echo fine"))).stdout == b"fine\n"


async def test_many_at_once_and_a_tenants_own_limit(runner: BwrapSandbox, tenant: Tenant) -> None:
    began = time.monotonic()
    jobs = [runner.run(tenant, shell("echo $$; sleep 0.2", concurrent=4)) for _ in range(12)]
    done = await asyncio.gather(*jobs)
    assert {d.exit_code for d in done} == {0}
    assert time.monotonic() - began >= 0.6


async def test_a_lost_launcher_ends_what_ran_and_is_started_anew(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.8180"
    task = asyncio.ensure_future(runner.run(tenant, shell(f"sleep {mark}; :")))
    while not [line for line in descendants() if line.startswith(f"sleep {mark}")]:
        await asyncio.sleep(0.02)
    pid = runner._link.pid
    assert pid is not None
    os.kill(pid, 9)
    assert (await task).killed == "launcher_lost"
    for _ in range(200):
        if not [line for line in descendants() if mark in line]:
            break
        await asyncio.sleep(0.02)
    assert [line for line in descendants() if mark in line] == []
    assert (await runner.run(tenant, shell("echo again"))).stdout == b"again\n"


async def test_what_cannot_be_given_whole_runs_nothing(runner: BwrapSandbox, tenant: Tenant) -> None:
    job = shell("echo ran > /workspace/ran")
    broken = replace(job, userland=replace(USR, mounts=(*USR.mounts, Mount("/nowhere/at/all", "/x"))))
    with pytest.raises(SandboxUnavailable, match="/nowhere/at/all"):
        await runner.run(tenant, broken)
    done = await runner.run(tenant, shell("ls"))
    assert done.stdout == b""


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


class Greeting:
    """A gate that greets whoever comes."""

    def __init__(self, text: bytes) -> None:
        self.env = {"WAY": "127.0.0.1/3128"}
        self.files = {"ssl/certs/ca.crt": b"certificates"}
        self.text = text
        self.cancelled = asyncio.Event()

    async def prepare(self) -> None:
        """It is ready."""

    def follow(self, other: object, /, *, alone: bool) -> None:
        """It is for everybody."""

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await loop.sock_sendall(connection, self.text)
        finally:
            self.cancelled.set()


async def test_the_gate_is_all_that_is_reached_and_goes_with_the_command(runner: BwrapSandbox, tenant: Tenant) -> None:
    one, two = Greeting(b"one"), Greeting(b"two")
    ask = shell("exec 3<>/dev/tcp/$WAY; cat <&3; cat /etc/ssl/certs/ca.crt")
    done = await asyncio.gather(
        runner.run(tenant, replace(ask, gate=one)), runner.run(tenant, replace(ask, gate=two)), runner.run(tenant, ask)
    )
    assert [end.stdout for end in done] == [b"onecertificates", b"twocertificates", b""]
    async with asyncio.timeout(30):
        await one.cancelled.wait()
        await two.cancelled.wait()
