"""A launcher by itself, driven over its socket as the gateway drives it."""

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carrel.sandbox.launcher import BLOCK_FD, STATUS_FD, packets
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.launching import archive
from carrel.sandbox.seccomp import filters
from tests.fakes.patience import PATIENCE
from tests.fakes.sandboxed import LAUNCH_UID

MINIMAL = [
    "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--disable-userns", "--die-with-parent",
    "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev",
    "--tmpfs", "/tmp", "--remount-ro", "/", "--json-status-fd", str(STATUS_FD), "--block-fd", str(BLOCK_FD),
]  # fmt: skip


GROUP = {"tenant": "acme", "tenant_files": {}, "files": {}, "cpu_seconds": 60}


class LauncherProcess:
    """``order`` what it should do; ``answer`` gives what it says, and keeps sockets that come along in ``gates``."""

    def __init__(self, groups: str = "") -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        self.gates: dict[int, socket.socket] = {}
        code = memory("launcher", archive())
        with theirs:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    f"/proc/self/fd/{code}",
                    str(theirs.fileno()),
                    str(LAUNCH_UID or ""),
                    groups,
                ],
                pass_fds=(theirs.fileno(), code),
                env={},
                stderr=subprocess.PIPE,
            )
        os.close(code)
        self.greeting = json.loads(self.socket.recv(1000))
        assert self.greeting["ready"] == self.process.pid
        programs = [memory("filter", program) for program in filters()]
        self.order({"do": "setup", "bwrap": "/usr/bin/bwrap", "filters": len(programs)}, programs)
        for fd in programs:
            os.close(fd)

    def order(self, order: dict[str, object], fds: list[int]) -> None:
        self.socket.sendmsg(
            [json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        )

    def run(
        self, number: int, *argv: str, wall: float | None = 60.0, rlimits: object = None, gate: bool = False,
        cpu_seconds: float = 60.0,
    ) -> None:  # fmt: skip
        spec = {"args": MINIMAL, "argv": argv, "rlimits": rlimits or {}, "wall_seconds": wall, "gate": gate,
                "group": {**GROUP, "cpu_seconds": cpu_seconds}}  # fmt: skip
        fds = [memory("spec", json.dumps(spec).encode()), *(os.open("/dev/null", os.O_RDWR) for _ in range(4))]
        self.order({"do": "run", "id": number}, fds)
        for fd in fds:
            os.close(fd)

    def enter(
        self, number: int, inside: int, *argv: str, wall: float = 60.0, env: object = None, cpu_seconds: float = 60.0
    ) -> "Written":
        """One more command in a sandbox; what it writes is in the answer of `Written.text` once it has ended."""
        spec = {
            "argv": argv, "env": env or {"PATH": "/usr/bin"}, "cwd": "/tmp",
            "rlimits": {}, "wall_seconds": wall,
            "group": {**GROUP, "cpu_seconds": cpu_seconds},
        }  # fmt: skip
        written = Written()
        fds = [memory("spec", json.dumps(spec).encode()), os.open("/dev/null", os.O_RDWR), written.fd, written.fd]
        self.order({"do": "enter", "id": number, "in": inside}, fds)
        for fd in fds[:2]:
            os.close(fd)
        return written

    def answer(self) -> dict[str, Any]:
        """The next packet that is no gate."""
        while True:
            data, descriptors = packets.receive(self.socket)
            told: dict[str, Any] = json.loads(data)
            if "gate" not in told:
                return told
            self.gates[told["id"]] = socket.socket(fileno=descriptors[0])

    def gate(self, number: int) -> socket.socket:
        """The gate of a sandbox that was just ordered with one."""
        if number not in self.gates:
            data, descriptors = packets.receive(self.socket)
            assert json.loads(data) == {"id": number, "gate": True}
            self.gates[number] = socket.socket(fileno=descriptors[0])
        return self.gates[number]

    def close(self) -> None:
        self.socket.close()
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        for gate in self.gates.values():
            gate.close()


class Written:
    """A file of memory that a command writes to."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("written")

    def text(self) -> str:
        """What was written; the file is gone after that."""
        try:
            return packets.content(self.fd).decode()
        finally:
            os.close(self.fd)


@contextmanager
def launcher_process(groups: str = "") -> Iterator[LauncherProcess]:
    """A launcher, ended afterwards; ``groups`` is its cgroup, where it is to have one."""
    made = LauncherProcess(groups)
    try:
        yield made
    finally:
        made.close()


def ended(answer: dict[str, Any]) -> dict[str, Any]:
    """How it ended, of an answer that tells that."""
    told = answer["ended"]
    assert isinstance(told, dict)
    return told


def running(mark: str, *, program: str = "") -> bool:
    """Whether a process runs whose command line has ``mark`` in it, and begins with ``program``."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
            if mark.encode() in words and words.startswith(program.encode()):
                return True
        except OSError:
            continue
    return False
