"""Workers: what runs in the background lives on, each command has its limits, and none is there that nobody needs."""

import asyncio
import gc
import os
import socket
from collections.abc import Mapping
from dataclasses import replace

import pytest

from carrel.errors import NotFound, SandboxUnavailable
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.launcher import running
from tests.fakes.patience import eventually
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant


def kept(command: str, name: str = "main", **limits: float) -> Job:
    job = shell(command)
    return replace(job, keep=name, limits=job.limits.model_copy(update=limits))


async def test_background_processes_and_tmp_live_on_between_commands(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, kept("echo one > /tmp/file; sleep 7010 & echo $!"))
    assert (done.exit_code, done.killed) == (0, None)
    pid = done.stdout.decode().strip()
    done = await runner.run(
        tenant,
        kept(
            f"cat /tmp/file; cat /proc/{pid}/cmdline | tr '\\0' ' '; cat",
        ),
    )
    assert done.stdout.decode() == "one\nsleep 7010 "
    (worker,) = runner.kept()
    assert (worker.tenant, worker.name, worker.commands, worker.running) == ("acme", "main", 2, 0)


async def test_a_repl_answers_the_next_message(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("touch /tmp/in; (tail -f /tmp/in | bash > /tmp/out 2>&1) & echo 'x=41' >> /tmp/in"))
    ask = "echo 'echo $((x + 1))' >> /tmp/in; until grep -q . /tmp/out; do sleep 0.02; done; cat /tmp/out"
    assert (await runner.run(tenant, kept(ask))).stdout == b"42\n"


async def test_codes_signals_output_and_input_are_as_in_a_sandbox_of_its_own(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    done = await runner.run(tenant, replace(kept("cat; echo err >&2; exit 3"), stdin=b"fed"))
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"fed", b"err\n")
    done = await runner.run(tenant, kept("kill -SEGV $$"))
    assert (done.exit_code, done.signal) == (None, 11)
    done = await runner.run(tenant, kept("seq 1 1000", output_bytes=100))
    assert (len(done.stdout), done.output_dropped) == (100, 3793)
    shown: list[bytes] = []
    await runner.run(tenant, kept("echo shown"), on_output=shown.append)
    assert b"".join(shown) == b"shown\n"


async def test_limits_hold_for_each_command_and_its_death_is_its_own(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark, lasting = f"{os.getpid()}.71", f"{os.getpid()}.72"
    await runner.run(tenant, kept(f"sleep {lasting} &"))
    done = await runner.run(tenant, kept(f"(setsid sleep {mark} &); sleep {mark}", wall_seconds=0.5))
    assert done.killed == "wall_clock"
    assert not running(mark)
    done = await runner.run(tenant, kept("while :; do :; done", cpu_seconds=1))
    assert done.killed == "cpu"
    done = await runner.run(tenant, kept("yes", output_bytes=100))
    assert done.killed == "output"
    done = await runner.run(tenant, kept("head -c 2000000 /dev/zero > big; echo $?", file_size_bytes=1 << 20))
    assert done.stdout != b"0\n"
    assert running(lasting)
    assert len(runner.kept()) == 1


async def test_cancelling_a_command_leaves_the_worker(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.73"
    await runner.run(tenant, kept("true"))
    task = asyncio.ensure_future(runner.run(tenant, kept(f"sleep {mark}")))
    await eventually(lambda: running(mark))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not running(mark))
    assert (await runner.run(tenant, kept("echo on"))).stdout == b"on\n"
    assert runner.kept()[0].running == 0


async def test_an_unused_one_is_stopped_and_the_next_command_starts_it_anew(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    mark = f"{os.getpid()}.74"
    await runner.run(tenant, kept(f"echo kept > file; touch /tmp/gone; sleep {mark} &", keep_idle_seconds=0.3))
    await eventually(lambda: not runner.kept() and not running(mark))
    done = await runner.run(tenant, kept("cat file; ls /tmp"))
    assert done.stdout == b"kept\n"


async def test_of_names_that_were_used_once_nothing_stays(runner: BwrapSandbox, tenant: Tenant) -> None:
    for name in ("one", "two"):
        await runner.run(tenant, kept("true", name, keep_idle_seconds=0.5))
    asleep = [worker.sandbox for worker in runner._workers._workers.values()]
    await eventually(lambda: not runner.kept())
    gc.collect()
    assert not list(runner._workers._locks.keys())
    # Nor a descriptor of theirs.
    await eventually(lambda: [one.stdin for one in asleep] == [-1, -1])


async def test_what_is_used_is_not_idle(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("touch /tmp/here", keep_idle_seconds=60))
    done = await runner.run(tenant, kept("sleep 1.5; ls /tmp", keep_idle_seconds=0.5))
    assert done.stdout == b"here\n"


async def test_two_names_and_two_tenants_share_nothing(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("touch /tmp/mine; sleep 7075 &", "one"))
    done = await runner.run(tenant, kept("ls /tmp; ps -e -o args | grep -c '[s]leep 7075'", "two"))
    assert done.stdout == b"0\n"
    with reachable() as path:
        other = workspace_tenant(path, "zeta")
        done = await runner.run(other, kept("ls /tmp; ps -e -o args | grep -c '[s]leep 7075'", "one"))
        assert done.stdout == b"0\n"
        assert {worker.tenant for worker in runner.kept()} == {"acme", "zeta"}
        await runner.stop_tenant(other.id)
        assert {worker.tenant for worker in runner.kept()} == {"acme"}
        other.root.close()


async def test_what_background_processes_write_is_kept_and_bounded(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("(until test -e go; do sleep 0.02; done; echo later; seq 1 200000; echo end) &"))
    (worker,) = runner.kept()
    assert b"later" not in runner.log(worker.id)
    await runner.run(tenant, kept("touch go"))
    await eventually(lambda: runner.log(worker.id).endswith(b"end\n"))
    assert len(runner.log(worker.id)) <= (256 << 10) + (64 << 10)


async def test_it_can_be_stopped_by_its_name_with_all_that_runs_in_it(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.76"
    await runner.run(tenant, kept(f"sleep {mark} &"))
    (worker,) = runner.kept()
    await runner.stop(worker.id)
    assert not running(mark)
    assert runner.kept() == ()
    with pytest.raises(NotFound):
        await runner.stop(worker.id)
    with pytest.raises(NotFound):
        runner.log(worker.id)


async def test_another_environment_waits_for_what_runs_in_the_old_one(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("touch /tmp/old; sleep 7077 & echo $! > pid"))
    done = await runner.run(tenant, kept("ls /tmp", tmp_bytes=1 << 20))
    assert done.stdout == b"old\n"
    assert "takes the new ones" in done.note
    done = await runner.run(tenant, kept("kill $(cat pid); while kill -0 $(cat pid) 2>/dev/null; do sleep 0.02; done"))
    assert done.note == ""
    done = await runner.run(tenant, kept("ls /tmp", tmp_bytes=1 << 20))
    assert done.stdout == b""
    assert "started anew" in done.note
    done = await runner.run(tenant, kept("ls /tmp", tmp_bytes=1 << 20))
    assert done.note == ""


async def test_no_more_are_kept_than_may_run_and_the_longest_unused_goes(runner: BwrapSandbox, tenant: Tenant) -> None:
    for name in ("a", "b", "a", "c"):
        await runner.run(tenant, kept("true", name, concurrent=2))
    assert sorted(worker.name for worker in runner.kept()) == ["a", "c"]


async def test_one_whose_command_is_killed_from_within_is_started_anew(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, kept("kill -9 2; sleep 60", wall_seconds=30))
    assert done.signal == 9 or done.killed
    await eventually(lambda: not runner.kept())
    assert (await runner.run(tenant, kept("echo again"))).stdout == b"again\n"


async def test_one_that_cannot_be_made_whole_says_why(runner: BwrapSandbox, tenant: Tenant) -> None:
    job = kept("true")
    broken = replace(job, userland=replace(job.userland, shell="/usr/bin/no-such-shell"))  # noqa: S604
    with pytest.raises(SandboxUnavailable, match="no-such-shell"):
        await runner.run(tenant, broken)
    assert runner.kept() == ()


async def test_all_go_with_the_runner(tenant: Tenant) -> None:
    mark = f"{os.getpid()}.78"
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    await runner.run(tenant, kept(f"sleep {mark} &"))
    before = len(os.listdir("/proc/self/fd"))
    await runner.close()
    assert not running(mark)
    assert len(os.listdir("/proc/self/fd")) < before
    assert runner.kept() == ()


async def test_the_first_command_of_many_at_once_starts_one_worker(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await asyncio.gather(*(runner.run(tenant, kept("touch /tmp/$$; echo ok")) for _ in range(8)))
    assert {end.stdout for end in done} == {b"ok\n"}
    assert len(runner.kept()) == 1
    assert len((await runner.run(tenant, kept("ls /tmp"))).stdout.split()) == 8


async def test_a_start_that_is_cancelled_leaves_nothing(runner: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.79"
    for delay in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02):
        task = asyncio.ensure_future(runner.run(tenant, kept(f"sleep {mark}", f"w{delay}")))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not running(mark))
    for worker in runner.kept():
        await runner.stop(worker.id)
    assert not any(one.running for one in runner.kept())


async def test_it_is_as_confined_as_any_other(runner: BwrapSandbox, tenant: Tenant) -> None:
    look = "grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status; ulimit -a; ls /proc/self/fd; env | sort"
    fresh = await runner.run(tenant, shell(look))
    in_worker = await runner.run(tenant, kept(look))
    assert in_worker.stdout.replace(b"Seccomp_filters:\t2", b"") == fresh.stdout.replace(b"Seccomp_filters:\t2", b"")


class Told:
    """A gate that remembers for whom it was said to be."""

    env: Mapping[str, str] = {}
    files: Mapping[str, bytes] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[tuple[str, bool]] = []

    async def prepare(self) -> None:
        """It is ready."""

    def follow(self, other: object, /, *, alone: bool) -> None:
        assert isinstance(other, Told)
        self.told.append((other.name, alone))

    async def serve(self, listener: socket.socket) -> None:
        await asyncio.get_running_loop().create_future()


async def test_S4_06_a_gate_is_told_whether_anything_of_anybody_elses_still_runs(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    one, two = Told("one"), Told("two")
    mark = f"{os.getpid()}.73"
    await runner.run(tenant, replace(kept("true"), gate=one))
    await runner.run(tenant, replace(kept("sleep " + mark + " & echo $! > pid"), gate=two))
    await runner.run(tenant, replace(kept("true"), gate=one))
    await runner.run(tenant, replace(kept("kill $(cat pid); while kill -0 $(cat pid); do sleep 0.05; done"), gate=one))
    await runner.run(tenant, replace(kept("true"), gate=two))
    assert one.told == [("one", True), ("two", True), ("one", False), ("one", False), ("two", True)]
    busy = asyncio.ensure_future(runner.run(tenant, replace(kept("touch here; sleep 60"), gate=two)))
    await eventually(lambda: runner.kept()[0].running == 1)
    await runner.run(tenant, replace(kept("true"), gate=one))
    assert one.told[-1] == ("one", False)
    assert two.told == []
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy


async def test_a_command_that_comes_while_one_is_ending_gets_another(runner: BwrapSandbox, tenant: Tenant) -> None:
    await runner.run(tenant, kept("echo one > file; touch /tmp/file"))
    (first,) = runner._workers._workers.values()
    runner._workers._end(first)
    assert (await runner.run(tenant, kept("cat file; ls /tmp"))).stdout == b"one\n"
    (second,) = runner._workers._workers.values()
    assert second.id != first.id
    runner._link.kill(second.sandbox.number)
    assert (await runner.run(tenant, kept("cat file"))).stdout == b"one\n"
    (third,) = runner.kept()
    assert third.id not in (first.id, second.id)
    assert (third.commands, third.running) == (1, 0)
