"""A sandbox that only waits: what commands are sent into, each with limits and a deadline of its own.

Its own command waits for its end of a pipe to close, and ends with it. Who needs one that lives on between commands (a
worker), or one with a terminal in it (a shell), begins with this.
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from carrel.errors import SandboxUnavailable
from carrel.ids import TenantId
from carrel.sandbox import bwrap, limits
from carrel.sandbox.command import PIPE_SECONDS
from carrel.sandbox.link import Ending, Link
from carrel.sandbox.protocol import EgressGate, Job
from carrel.sandbox.seccomp import denying
from carrel.tenancy.paths import TenantRoot

LOG_BYTES: Final = 256 << 10
START_SECONDS: Final = 30.0
_PIPES: Final = 32
_PIECE: Final = 1 << 16
_READY: Final = b"ready\n"
_WAITING: Final = "echo ready; read -r _"

Start = Callable[[TenantId, int, Job, list[int]], Awaitable[tuple[int, "asyncio.Future[Ending]", Callable[[], None]]]]
"""Starts a sandbox of ``job`` with [stdin, stdout, stderr]: its number, a future of its end, and what ends its gate."""


class Log:
    """The last of what background processes wrote, read from the pipes that they still hold."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._open: list[int] = []

    def take(self, descriptors: list[int]) -> None:
        """Read these too, until they end; they are this object's from here on."""
        for fd in descriptors:
            os.set_blocking(fd, False)
            self._open.append(fd)
            asyncio.get_running_loop().add_reader(fd, self._read, fd)
        while len(self._open) > _PIPES:
            self._end(self._open[0])

    def text(self) -> bytes:
        """What is kept of it."""
        return b"".join(self._pieces)

    def close(self) -> None:
        """Read no more."""
        for fd in list(self._open):
            self._end(fd)

    def _read(self, fd: int) -> None:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            self._end(fd)
            return
        self._pieces.append(piece)
        self._size += len(piece)
        while self._size > LOG_BYTES and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft())

    def _end(self, fd: int) -> None:
        self._open.remove(fd)
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


@dataclass(eq=False)
class Asleep:
    """One that runs, made for ``job``. ``number`` is what the launcher calls it, ``log`` what nobody's pipe took."""

    job: Job
    number: int
    ending: "asyncio.Future[Ending]"
    end_gate: Callable[[], None]
    stdin: int
    log: Log = field(default_factory=Log)

    def close(self) -> None:
        """Give up what is held of it, which ends it."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1
        self.log.close()
        self.end_gate()


async def put_to_sleep(link: Link, start: Start, tenant: TenantId, job: Job, root: TenantRoot) -> Asleep:
    """A sandbox as ``job`` needs it, in the workspace ``root``, that is whole; raises SandboxUnavailable."""
    waiting = replace(job, argv=(job.userland.shell, "-c", _WAITING), stdin=b"", cwd="/workspace")
    ends = [*os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC)]
    stdin, hold, hear, stdout, words, stderr = ends
    try:
        number, ending, end_gate = await start(tenant, root.fd, waiting, [stdin, stdout, stderr])
    except BaseException:
        for fd in (hold, hear, words):
            os.close(fd)
        raise
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)
    sandbox = Asleep(waiting, number, ending, end_gate, hold)
    sandbox.log.take([words])
    try:
        await _ready(sandbox, hear)
    except BaseException:
        link.kill(number)
        await asyncio.wait([ending], timeout=PIPE_SECONDS)
        sandbox.close()
        raise
    finally:
        os.close(hear)
    return sandbox


async def _ready(sandbox: Asleep, hear: int) -> None:
    """Wait until it is whole: nobody may be sent into one that is not."""
    loop = asyncio.get_running_loop()
    said: asyncio.Future[bytes] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(hear)
        if not said.done():
            said.set_result(os.read(hear, 100))

    loop.add_reader(hear, readable)
    try:
        both: list[asyncio.Future[Any]] = [said, sandbox.ending]
        await asyncio.wait(both, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(hear)
    if not (said.done() and said.result() == _READY):
        if sandbox.ending.done() and sandbox.ending.exception() is not None:
            sandbox.ending.result()
        await asyncio.sleep(0)
        text = sandbox.log.text().decode("utf-8", "replace").strip()[-500:]
        raise SandboxUnavailable(
            f"The sandbox could not be made whole, so nothing was run: {text or 'no reason given'}"
        )


def entering(tenant: TenantId, job: Job, *, gate: EgressGate | None, terminal: bool = False) -> dict[str, object]:
    """The order to run ``job`` in a sandbox whose way out is ``gate``; ``terminal``: standard input is one."""
    return {
        "argv": job.argv,
        "env": bwrap.environment(replace(job, gate=gate)),
        "cwd": job.cwd,
        "rlimits": bwrap.rlimits(job),
        "wall_seconds": job.limits.wall_seconds,
        "group": limits.group(tenant, job),
        "filters": [denying(job.confinement.refusals).hex()] if job.confinement.refusals else [],
        "terminal": terminal,
    }
