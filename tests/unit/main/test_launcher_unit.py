"""The launcher as a service: started with a connection as systemd starts it, by the real program."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from carrel.errors import SandboxUnavailable
from carrel.main.launcher_unit import refuse_others
from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.sandboxed import LAUNCH_UID, reachable, shell, workspace_tenant

START = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
if os.geteuid() == 0 and sys.argv[2]:
    uid = int(sys.argv[2]); os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-c", "from carrel.main.launcher_unit import run; run()"])
"""


def start(connection: socket.socket, uid: int | None) -> "subprocess.Popen[bytes]":
    """What systemd does with a connection to a socket with `Accept=yes`."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(connection.fileno()), str(uid) if uid is not None else ""],
        pass_fds=[connection.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def service(path: Path) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """A socket at ``path``, each connection to which has a launcher of its own; the gateway's uid is this process's."""
    started: list[subprocess.Popen[bytes]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        started.append(start(connection, LAUNCH_UID))

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield started
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            for process in started:
                process.kill()
                process.communicate(timeout=60)


@pytest.mark.skipif(LAUNCH_UID is not None, reason="whoever connects must be who the launcher runs as: not root")
async def test_commands_run_by_a_launcher_that_is_a_service() -> None:
    with reachable() as path, service(path / "launcher.sock") as started:
        tenant, runner = workspace_tenant(path), BwrapSandbox(service=path / "launcher.sock")
        assert (await runner.run(tenant, shell("echo one > f; cat f"))).stdout == b"one\n"
        started[0].kill()
        await asyncio.to_thread(started[0].wait, 60)
        while True:
            with suppress(SandboxUnavailable):
                done = await runner.run(tenant, shell("cat f"))
                break
        assert done.stdout == b"one\n", "a lost launcher is replaced by another"
        await runner.close()
        assert await asyncio.to_thread(started[-1].wait, 60) == 0, "it ends with its connection"
        tenant.root.close()


async def test_where_nobody_listens_the_unit_is_named(tmp_path: Path) -> None:
    runner = BwrapSandbox(service=tmp_path / "nobody.sock")
    problem = await runner.check()
    await runner.close()
    assert problem is not None
    assert "cannot be reached at" in problem
    assert "is its unit running?" in problem


def test_it_wants_systemd_and_one_connection() -> None:
    code = "from carrel.main.launcher_unit import run; run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "systemd starts this, with one connection" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused")
def test_it_is_never_root() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        process = start(theirs, None)
    _, told = process.communicate(timeout=60)
    assert b"never started by uid 0" in told, told
    assert process.returncode == 1


def test_it_takes_orders_of_its_own_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        refuse_others(theirs)
        peer = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: peer + 1)
        with pytest.raises(SystemExit, match=f"uid {peer} gives no orders here"):
            refuse_others(theirs)
