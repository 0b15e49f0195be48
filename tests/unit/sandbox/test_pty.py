"""A command on a terminal: it is the session's own, its host end is outside, and nothing of it is left at its end."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.errors import SandboxUnavailable
from carrel.sandbox.link import Ending
from carrel.sandbox.protocol import Confinement, Job, Outcome, Pty, Size
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.launcher import running
from tests.fakes.patience import eventually
from tests.fakes.sandboxed import shell
from tests.fakes.terminals import Screen

SIZE = Size(80, 24)


@asynccontextmanager
async def on_screen(
    runner: BwrapSandbox, tenant: Tenant, job: Job, size: Size = SIZE
) -> AsyncIterator[tuple[Pty, Screen]]:
    async with runner.pty(tenant, job, size) as pty:
        with Screen(pty.master) as screen:
            yield pty, screen


async def outcome(pty: Pty) -> Outcome:
    async with asyncio.timeout(30):
        return await pty.ended()


async def test_the_terminal_is_the_sessions_own(runner: BwrapSandbox, tenant: Tenant) -> None:
    async with on_screen(runner, tenant, shell("tty -s && stty size; ps -o sid= -p $$; exit 7")) as (pty, screen):
        assert (await outcome(pty)).exit_code == 7
        await screen.shows("24 80")
    async with on_screen(runner, tenant, shell(": > /dev/tty && echo mine; read -r word; echo got $word")) as (
        pty, screen,
    ):  # fmt: skip
        await screen.shows("mine")
        screen.types("hello\n")
        await screen.shows("got hello")
        assert (await outcome(pty)).exit_code == 0


async def test_ctrl_c_and_another_size_reach_what_runs(runner: BwrapSandbox, tenant: Tenant) -> None:
    command = "trap 'stty size' WINCH; trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    async with on_screen(runner, tenant, shell(command)) as (pty, screen):
        await screen.shows("ready")
        assert isinstance(pty.pid(), int)
        pty.resize(Size(132, 50))
        await screen.shows("50 132")
        screen.types("\x03")
        await screen.shows("caught")
        assert (await outcome(pty)).exit_code == 3
    assert pty.pid() is None


async def test_its_end_is_that_of_all_that_it_began(runner: BwrapSandbox, tenant: Tenant) -> None:
    marks = [f"{os.getpid()}.{number}" for number in (81, 82, 83)]
    job = shell(f"(setsid sleep {marks[0]} &); nohup sleep {marks[1]} & echo on; sleep {marks[2]}")
    async with on_screen(runner, tenant, job) as (_, screen):
        await screen.shows("on")
        await eventually(lambda: all(map(running, marks)))
    assert not any(map(running, marks))


async def test_its_time_and_a_stop_end_it_and_say_so(runner: BwrapSandbox, tenant: Tenant) -> None:
    async with on_screen(runner, tenant, shell("sleep 60", wall_seconds=0.3)) as (pty, _):
        assert (await outcome(pty)).killed == "wall_clock"
    async with on_screen(runner, tenant, shell("sleep 60")) as (pty, _):
        pty.stop("cancelled")
        assert (await outcome(pty)).killed == "cancelled"
    async with on_screen(runner, tenant, shell("kill -TERM $$")) as (pty, _):
        assert (await outcome(pty)).signal == 15


async def test_the_workspace_is_busy_and_no_place_of_a_run_is_taken(runner: BwrapSandbox, tenant: Tenant) -> None:
    one = SandboxConfig(concurrent=1)
    async with on_screen(runner, tenant, replace(shell("cat"), limits=one)):
        assert runner.busy(tenant.id, "sandbox")
        done = await runner.run(tenant, replace(shell("echo beside"), limits=one))
        assert done.stdout == b"beside\n"
    assert not runner.busy(tenant.id, "sandbox")
    assert runner.kept() == ()


async def test_what_cannot_be_found_is_said_on_the_terminal(runner: BwrapSandbox, tenant: Tenant) -> None:
    async with on_screen(runner, tenant, replace(shell(""), argv=("no-such-shell",))) as (pty, screen):
        await screen.shows("no-such-shell: command not found")
        assert (await outcome(pty)).exit_code == 127


async def test_a_lost_launcher_ends_it(runner: BwrapSandbox, tenant: Tenant) -> None:
    async with on_screen(runner, tenant, shell("cat")) as (pty, _):
        ended = asyncio.ensure_future(pty.ended())
        await runner.close()
        assert (await ended).killed == "launcher_lost"


@pytest.mark.parametrize("runtime", ["bwrap", "oci"])
async def test_it_is_as_confined_as_any_command(
    runtime: Literal["bwrap", "oci"], runner: BwrapSandbox, tenant: Tenant
) -> None:
    look = (
        "{ grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; cut -d: -f1 /proc/net/dev; ls /sys /run /etc 2>&1; "
        "ulimit -u -n -f -c; env | sort; touch /usr/here 2>&1; ls /proc | grep -c '^[0-9]' > /dev/null; } > seen.$0"
    )
    job = replace(shell(""), confinement=Confinement(runtime), keep="main")
    await runner.run(tenant, replace(job, argv=("bash", "-c", look, "command")))
    async with on_screen(runner, tenant, replace(job, argv=("bash", "-c", look, "terminal"), keep=None)) as (pty, _):
        assert (await outcome(pty)).exit_code is not None
    command, terminal = [
        (await runner.run(tenant, shell(f"cat seen.{name}"))).stdout for name in ("command", "terminal")
    ]
    assert command == terminal
    assert b"NoNewPrivs:\t1" in terminal
    assert b"CapEff:\t0000000000000000" in terminal


async def test_where_no_command_can_be_sent_in_it_is_refused_at_once(runner: BwrapSandbox, tenant: Tenant) -> None:
    """As under a runtime that keeps nothing: there the launcher answers so."""

    async def refused(inside: int, descriptors: object) -> tuple[int, "asyncio.Future[Ending]"]:
        ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        ending.set_exception(SandboxUnavailable("no command can be sent in"))
        return inside, ending

    runner._link.enter = refused  # type: ignore[method-assign] # a launcher that sends nobody in
    with pytest.raises(SandboxUnavailable, match="sent in"):
        async with runner.pty(tenant, shell("true"), SIZE):
            pytest.fail("it was begun")
