"""Both sides of what systemd and a service say to each other, with a real socket in systemd's place."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from carrel.main.systemd import Notifier, inherited


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Where a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.settimeout(60)
        yield end


def test_it_says_when_it_is_ready_and_when_it_stops(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "PATH": "/bin"}
    notifier = Notifier(environ)
    assert environ == {"PATH": "/bin"}, "no child is told where to speak for this process"
    notifier.ready("3 tenants")
    assert manager.recv(4096) == b"READY=1\nSTATUS=3 tenants"
    notifier.stopping("draining", seconds=1.5)
    assert manager.recv(4096) == b"STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=1500000"


def test_a_name_without_a_file_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        name = f"carrel-test-{os.getpid()}"
        end.bind(f"\0{name}")
        end.settimeout(60)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).tell(READY=1)
        assert end.recv(4096) == b"READY=1"


async def test_without_a_manager_nothing_is_said_and_nothing_waits() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000"})
    notifier.ready("well")
    assert notifier.watchdog_seconds is None
    await notifier.keep_alive()


def test_a_manager_that_has_gone_is_logged_and_no_failure(tmp_path: Path) -> None:
    with capture_logs() as lines:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("well")
    assert [line["event"] for line in lines] == ["the service manager is not told"]


async def test_it_is_alive_as_long_as_its_loop_turns(manager: socket.socket) -> None:
    told = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(told)
    assert notifier.watchdog_seconds == 0.2
    beating = asyncio.ensure_future(notifier.keep_alive())
    for _ in range(3):
        assert await asyncio.to_thread(manager.recv, 4096) == b"WATCHDOG=1"
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)


def test_a_watchdog_over_another_process_is_none_over_this_one(manager: socket.socket) -> None:
    told = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier(told).watchdog_seconds is None


def test_what_was_handed_to_another_process_is_left_alone() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    assert inherited(environ) == []
    assert environ == {}
    assert inherited({}) == []


def test_sockets_that_were_handed_over_are_listened_on() -> None:
    """In a process of its own: only there are the first descriptors free."""
    code = """
import os, socket
from carrel.main.systemd import inherited
listening = socket.socket(); listening.bind(("127.0.0.1", 0)); listening.listen()
os.dup2(listening.fileno(), 3, inheritable=True)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
(one,) = inherited(environ)
assert one.fileno() == 3 and not os.get_inheritable(3) and environ == {}
assert one.getsockname() == listening.getsockname()
print("handed")
"""
    import subprocess  # noqa: PLC0415 - for this one alone
    import sys  # noqa: PLC0415 - as above

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "handed\n", done.stderr
