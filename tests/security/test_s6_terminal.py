"""Security 6.2: terminals in the real sandbox. What a shell is there, and that its time or its tenant end all of it."""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from carrel.clock import SystemClock
from carrel.declare.tenant import TerminalConfig
from carrel.events.hub import Hub
from carrel.ids import RequestId
from carrel.sandbox.protocol import Size
from carrel.sandbox.runner import BwrapSandbox
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Tenant
from carrel.tenancy.userland import Userland
from carrel.terminal.screen import Screen
from carrel.terminal.service import Order, Terminals
from tests.fakes.administration import FakeAudit
from tests.fakes.launcher import running
from tests.fakes.patience import eventually
from tests.fakes.sandboxed import LAUNCH_UID, USR, reachable, workspace_tenant
from tests.fakes.tenants import make_snapshot
from tests.fakes.terminals import NoWayOut


class Host:
    """The host's userland for everybody."""

    async def userland(self, packages: frozenset[str], *, wait: float) -> Userland:
        return USR


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()


@pytest.fixture
def directory(tenant: Tenant) -> Directory:
    made = Directory()
    made.publish(make_snapshot(tenant))
    return made


@pytest.fixture
async def terminals(tmp_path: Path, directory: Directory) -> AsyncIterator[Terminals]:
    clock, tasks, sandbox = SystemClock(), Tasks("terminals"), BwrapSandbox(launch_uid=LAUNCH_UID)
    made = Terminals(
        state_dir=tmp_path, sandbox=sandbox, environments=Host(), egress=NoWayOut(), directory=directory,
        audit=FakeAudit(), hub=Hub(clock=clock), clock=clock, tasks=tasks,
    )  # fmt: skip
    await made.start()
    yield made
    await made.close()
    await tasks.close()
    await sandbox.close()


async def opened(terminals: Terminals, tenant: Tenant) -> Screen:
    terminal_id = f"term_{secrets.token_hex(12)}"
    order = Order(terminal_id, "tk", RequestId("req_1"), "main", "sandbox", Size(80, 24), lambda: True)
    return await terminals.open(tenant, order)


async def shows(screen: Screen, text: str) -> None:
    await eventually(lambda: text.encode() in screen._ring.since(0, 1 << 20)[1])


async def test_S6_02_the_shell_is_in_the_sandbox_and_the_ptys_host_end_is_not(
    terminals: Terminals, tenant: Tenant
) -> None:
    screen = await opened(terminals, tenant)
    look = (
        "grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; touch /usr/x; ls /dev/pts; ls /proc/$$/fd; "
        "hostname; (exec 3<>/dev/tcp/169.254.169.254/80) 2>&1; echo lo''oked"
    )
    screen.write(f"{look}\n".encode())
    await shows(screen, "looked\r\n")
    text = screen._ring.since(0, 1 << 20)[1].decode()
    for wanted in (
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Read-only file system",
        "sandbox\r\n",
    ):
        assert wanted in text
    assert "Network is unreachable" in text
    # The twin: what it is for.
    screen.write(b"echo mine > here && cat he're' && stty size\n")
    await shows(screen, "mine\r\n24 80\r\n")


async def test_S6_02_its_time_ends_all_that_it_began(
    terminals: Terminals, directory: Directory, tenant: Tenant
) -> None:
    config = tenant.config.model_copy(update={"terminal": TerminalConfig(total_seconds=2.0)})
    short = replace(tenant, config=config)
    directory.publish(make_snapshot(short))
    mark = f"{os.getpid()}.91"
    screen = await opened(terminals, short)
    screen.write(f"trap '' HUP TERM; (setsid nohup sleep {mark} &); sleep {mark}\n".encode())
    await eventually(lambda: running(mark))
    await eventually(lambda: screen.end is not None)
    assert screen.end is not None
    assert screen.end.reason == "total_time"
    await eventually(lambda: not running(mark))


async def test_S6_02_a_suspended_tenant_has_none_and_another_keeps_its_own(
    terminals: Terminals, directory: Directory, tenant: Tenant
) -> None:
    with reachable() as path:
        other = workspace_tenant(path, "zeta")
        directory.publish(make_snapshot(tenant, other))
        ours, theirs = await opened(terminals, tenant), await opened(terminals, other)
        directory.publish(make_snapshot(replace(tenant, suspended=True), other))
        await eventually(lambda: ours.end is not None)
        theirs.write(b"echo st''ill\n")
        await shows(theirs, "still\r\n")
        theirs.stop("closed")
        await eventually(lambda: theirs.end is not None)
        other.root.close()
