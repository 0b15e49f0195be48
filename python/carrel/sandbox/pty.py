"""A command on a terminal of its own: the slave is its input and output in the sandbox, the master stays outside.

It runs in a sandbox that else only waits, as a worker's commands do, and the launcher makes the slave its session's
terminal. So it needs nothing of the closure, and is the same under bubblewrap and in a container.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from carrel.errors import SandboxUnavailable
from carrel.ids import TenantId
from carrel.sandbox.asleep import START_SECONDS, Asleep, Start, entering, put_to_sleep
from carrel.sandbox.command import Stop, ended_by
from carrel.sandbox.disk import DiskWatch
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.link import Ending, Link
from carrel.sandbox.protocol import Job, KillReason, Outcome, Size
from carrel.tenancy.paths import TenantRoot

_TIOCGSID: Final = 0x5429
_LOOK_SECONDS: Final = 0.003


class OpenPty:
    """See ``protocol.Pty``. ``ending`` tells how the command in ``sandbox`` ended, which the launcher calls ``number``.

    ``stop`` is also called by who looks at the disk.
    """

    def __init__(
        self, link: Link, job: Job, sandbox: Asleep, *, number: int, ending: "asyncio.Future[Ending]", master: int,
        stop: Stop, note: str,
    ) -> None:  # fmt: skip
        self.master = master
        self.note = note
        self._link = link
        self._job = job
        self._sandbox = sandbox
        self._number = number
        self._ending = ending
        self._reason: KillReason | None = None
        self.stop = stop
        stop.on_call = self._kill
        if stop.why is not None:
            self._kill(stop.why)

    def resize(self, size: Size) -> None:
        """See ``Pty.resize``."""
        _set_size(self.master, size)

    def pid(self) -> int | None:
        """See ``Pty.pid``: the master knows the session that its slave belongs to."""
        try:
            told = fcntl.ioctl(self.master, _TIOCGSID, struct.pack("i", 0))
            with open(f"/proc/{struct.unpack('i', told)[0]}/status", "rb", buffering=0) as file:
                inside = file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
            return int(inside[-1])
        except (OSError, IndexError, ValueError):
            return None

    async def ended(self) -> Outcome:
        """See ``Pty.ended``."""
        ended = await asyncio.shield(self._ending)
        if ended.exit_code is None and ended.killed is None and self._reason is None:
            raise SandboxUnavailable("The shell could not be started in its sandbox.")
        code, signal, killed = ended_by(self._job, ended, self._reason)
        return Outcome(
            code, signal, b"", b"", 0, killed, ended.seconds, refused_forks=ended.refused_forks,
            cpu_seconds=ended.cpu_seconds, memory_bytes=ended.max_rss, pids=ended.pids,
        )  # fmt: skip

    def over(self) -> bool:
        """Whether the command is."""
        return self._ending.done()

    def _kill(self, why: KillReason) -> None:
        self._reason = self._reason or why
        self._link.kill(self._number)


@asynccontextmanager
async def opened(
    link: Link, start: Start, tenant: TenantId, job: Job, root: TenantRoot, *, size: Size, stop: Stop, note: str
) -> AsyncIterator[OpenPty]:
    """Run ``job`` on a terminal in the workspace ``root`` for as long as the block lasts."""
    sandbox = await put_to_sleep(link, start, tenant, job, root)
    master, slave = pty.openpty()
    disk = DiskWatch(root.fd, lambda: stop("disk"))
    try:
        try:
            os.set_blocking(master, False)
            _set_size(master, size)
            number, ending = await _entered(link, sandbox, tenant, job, slave)
        finally:
            os.close(slave)
        disk.start()
        made = OpenPty(link, job, sandbox, number=number, ending=ending, master=master, stop=stop, note=note)
        await _begun(made, ending)
        yield made
    finally:
        stop.on_call = None
        disk.stop()
        os.close(master)
        link.kill(sandbox.number)
        await asyncio.shield(asyncio.wait([sandbox.ending], timeout=START_SECONDS))
        sandbox.close()


async def _begun(made: OpenPty, ending: "asyncio.Future[Ending]") -> None:
    """Wait until the command has its terminal; raises SandboxUnavailable where it could not be sent in."""
    until = asyncio.get_running_loop().time() + START_SECONDS
    while asyncio.get_running_loop().time() < until:
        if ending.done():
            ending.result()
            return
        if await asyncio.to_thread(made.pid) is not None:
            return
        await asyncio.sleep(_LOOK_SECONDS)


async def _entered(
    link: Link, sandbox: Asleep, tenant: TenantId, job: Job, slave: int
) -> "tuple[int, asyncio.Future[Ending]]":
    order = memory("order", json.dumps(entering(tenant, job, gate=sandbox.job.gate, terminal=True)).encode())
    try:
        return await link.enter(sandbox.number, [order, slave, slave, slave])
    finally:
        os.close(order)


def _set_size(master: int, size: Size) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
