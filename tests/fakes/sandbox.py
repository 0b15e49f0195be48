"""A runner that really runs commands, in the tenant's workspace and within its time and output, but in no sandbox.

For tests of what uses one. What a sandbox keeps apart is tested against the real thing.
"""

import asyncio
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import IO

from carrel.errors import CarrelError, NotFound
from carrel.ids import TenantId
from carrel.sandbox.protocol import Confinement, Job, KeptSandbox, KillReason, Mechanism, Outcome, Pty, Size
from carrel.sandbox.usage import Use, measure
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Userland

HOST = Userland("host", "host", (), "/usr/bin:/bin", "/bin/sh", reason="a test")
PIECE = 4096


class FakeEnvironments:
    """Gives the host's userland, after ``delay`` seconds, or raises ``error``."""

    def __init__(self, *, delay: float = 0.0, error: CarrelError | None = None) -> None:
        self.delay = delay
        self.error = error
        self.asked: list[frozenset[str]] = []

    async def userland(self, packages: frozenset[str], *, wait: float) -> Userland:
        self.asked.append(packages)
        await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        return HOST


@dataclass
class FakeSandbox:
    """Runs jobs as processes of this one's own; remembers them, and fails with ``error`` where one is set."""

    error: CarrelError | None = None
    full: CarrelError | None = None
    jobs: list[tuple[str, Job]] = field(default_factory=list)
    running: set[int] = field(default_factory=set)

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        self.jobs.append((tenant.id, job))
        if self.error is not None:
            raise self.error
        workspace = tenant.root.directory(job.workspace)
        try:
            process = _start(job, workspace.fd)
        finally:
            workspace.close()
        self.running.add(process.pid)
        reading = asyncio.ensure_future(asyncio.to_thread(_finish, process, job, on_output))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            _kill(process)
            await asyncio.wait([reading])
            raise
        finally:
            self.running.discard(process.pid)

    async def disk(self, tenant: Tenant) -> Use:
        return sum((await asyncio.to_thread(measure, tenant.root)).values(), Use())

    @asynccontextmanager
    async def pty(self, tenant: Tenant, job: Job, size: Size) -> AsyncIterator[Pty]:
        self.jobs.append((tenant.id, job))
        if self.error is not None:
            raise self.error
        workspace = tenant.root.directory(job.workspace)
        try:
            process, master = await asyncio.to_thread(_on_terminal, job, workspace.fd, size)
        finally:
            workspace.close()
        self.running.add(process.pid)
        opened = FakePty(process, master, job)
        try:
            yield opened
        finally:
            opened.stop("cancelled")
            await asyncio.to_thread(process.wait)
            os.close(master)
            self.running.discard(process.pid)

    def kept(self) -> tuple[KeptSandbox, ...]:
        return ()

    def busy(self, tenant: TenantId, workspace: str) -> bool:
        return bool(self.running)

    def template(self, sandbox_id: str) -> Job:
        raise NotFound(sandbox_id)

    def log(self, sandbox_id: str) -> bytes:
        raise NotFound(sandbox_id)

    async def stop(self, sandbox_id: str) -> None:
        raise NotFound(sandbox_id)

    async def stop_tenant(self, tenant: TenantId) -> None:
        return

    async def room(self, tenant: Tenant, size: int) -> None:
        if self.full is not None:
            raise self.full

    def mechanisms(self) -> tuple[Mechanism, ...]:
        return (Mechanism("wall_clock", "a thread", "process"),)

    async def check(self, confinement: Confinement | None = None) -> str | None:
        return "This is no sandbox."

    async def close(self) -> None:
        return


class FakePty:
    """A process on a terminal of this machine's."""

    note = ""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, job: Job) -> None:
        self.master = master
        self._process = process
        self._killed: KillReason | None = None
        self._ended = asyncio.ensure_future(asyncio.to_thread(self._wait, job.limits.wall_seconds))

    def resize(self, size: Size) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))

    def pid(self) -> int | None:
        return self._process.pid

    def stop(self, why: KillReason) -> None:
        if self._process.poll() is None:
            self._killed = self._killed or why
            _kill(self._process)
            self._process.kill()

    async def ended(self) -> Outcome:
        code = await asyncio.shield(self._ended)
        if self._killed is not None:
            return Outcome(None, signal.SIGKILL, b"", b"", 0, self._killed, 0.0)
        return Outcome(code if code >= 0 else None, None if code >= 0 else -code, b"", b"", 0, None, 0.0)

    def _wait(self, seconds: float) -> int:
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop("wall_clock")
            return self._process.wait()


def _on_terminal(job: Job, workspace: int, size: Size) -> "tuple[subprocess.Popen[bytes], int]":
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
    try:
        process = subprocess.Popen(
            # Who runs tests in the background of a script has them ignored, and the real launcher undoes that too.
            ["/usr/bin/env", "--default-signal=HUP,INT,QUIT", "/usr/bin/setsid", "--ctty", *job.argv],
            stdin=slave, stdout=slave, stderr=slave, cwd=f"/proc/self/fd/{workspace}", pass_fds=(workspace,),
            env={"PATH": job.userland.search_path, "HOME": "/workspace", **job.env},
        )  # fmt: skip
    finally:
        os.close(slave)
    return process, master


def _start(job: Job, workspace: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        list(job.argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=f"/proc/self/fd/{workspace}",
        pass_fds=(workspace,),
        env={"PATH": job.userland.search_path, "HOME": "/workspace", **job.env},
        start_new_session=True,
    )


def _finish(process: "subprocess.Popen[bytes]", job: Job, on_output: Callable[[bytes], None] | None) -> Outcome:
    taken = _Taken(job.limits.output_bytes, on_output)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    readers = [
        threading.Thread(target=taken.read, args=(pipe, into), daemon=True)
        for pipe, into in ((process.stdout, taken.stdout), (process.stderr, taken.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        process.stdin.write(job.stdin)
        process.stdin.close()
    except BrokenPipeError:
        pass
    killed: KillReason | None = None
    try:
        code = process.wait(job.limits.wall_seconds)
    except subprocess.TimeoutExpired:
        killed = "wall_clock"
        _kill(process)
        code = process.wait()
    _kill(process)
    for reader in readers:
        reader.join(5)
    process.stdout.close()
    process.stderr.close()
    outcome = Outcome(None, None, bytes(taken.stdout), bytes(taken.stderr), taken.dropped, killed, 0.0)
    return replace(outcome, exit_code=code) if code >= 0 else replace(outcome, signal=-code)


class _Taken:
    """Output up to a limit in all."""

    def __init__(self, limit: int, on_output: Callable[[bytes], None] | None) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.dropped = 0
        self._left = limit
        self._on_output = on_output
        self._lock = threading.Lock()

    def read(self, pipe: IO[bytes], into: bytearray) -> None:
        while piece := os.read(pipe.fileno(), PIECE):
            with self._lock:
                kept = piece[: self._left]
                self._left -= len(kept)
                self.dropped += len(piece) - len(kept)
                into += kept
            if self._on_output is not None:
                self._on_output(piece)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
