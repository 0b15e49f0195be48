"""One command from its descriptors to its outcome, whoever starts it: by itself or in a worker."""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from carrel.errors import SandboxUnavailable, TooLarge
from carrel.sandbox.disk import DiskWatch
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.link import Ending, Link
from carrel.sandbox.output import Output
from carrel.sandbox.protocol import Job, KillReason, Outcome

T = TypeVar("T")
Begin = Callable[[list[int]], Awaitable[tuple[int, "asyncio.Future[Ending]"]]]
"""Starts what the descriptors [order, stdin, stdout, stderr] describe; its number, and a future of its end."""

PIPE_SECONDS: Final = 2.0
_MAX_ARGUMENT: Final = (128 << 10) - 1
_SIGNALS: Final = range(1, 65)
_SIGKILL: Final = 9
_SIGXCPU: Final = 24
_SIGXFSZ: Final = 25


@dataclass
class _Pipes:
    """What the launcher is handed (its copies are closed here once it has its own), and the ends that are read."""

    handed: list[int]
    stdout: int
    stderr: int

    def close_handed(self) -> None:
        for fd in self.handed:
            os.close(fd)

    def discard(self) -> None:
        self.close_handed()
        os.close(self.stdout)
        os.close(self.stderr)


class Stop:
    """A way to end a command for a reason, also before it has begun."""

    def __init__(self) -> None:
        self.why: KillReason | None = None
        self.on_call: Callable[[KillReason], None] | None = None

    def __call__(self, why: KillReason) -> None:
        self.why = self.why or why
        if self.on_call is not None:
            self.on_call(self.why)


class Command:
    """One run of ``job`` in the directory ``workspace``, which stays the caller's. Used once."""

    def __init__(
        self,
        link: Link,
        workspace: int,
        job: Job,
        *,
        on_output: Callable[[bytes], None] | None = None,
        stop: Stop | None = None,
    ) -> None:
        self._from_outside = stop or Stop()
        self._link = link
        self._workspace = workspace
        self._job = job
        self._output = Output(
            job.limits.output_bytes, on_output=on_output, on_flood=lambda: self._stop("output")
        )  # fmt: skip
        self._number = 0
        self._reason: KillReason | None = None

    async def run(
        self,
        begin: Begin,
        order: Mapping[str, object],
        *,
        stays: Callable[[list[int]], None] | None = None,
    ) -> Outcome:
        """Start it by ``begin`` and see it to its end. Cancelled, it kills it before it ends.

        ``stays`` is for a command whose background processes may live on: it takes the pipes that they still write to.
        Raises SandboxUnavailable where the command was never come to.
        """
        disk = DiskWatch(self._workspace, lambda: self._stop("disk"))
        try:
            pipes = await kept(lambda: _opened(self._job, order), _Pipes.discard)
            self._output.read_from(pipes.stdout, pipes.stderr)
            try:
                self._number, ending = await begin(pipes.handed)
            finally:
                pipes.close_handed()
            disk.start()
            self._from_outside.on_call = self._stop
            if self._from_outside.why is not None:
                self._stop(self._from_outside.why)
            ended = await self._to_the_end(ending)
            if stays is None:
                await self._output.wait(PIPE_SECONDS)
            else:
                stays(self._output.release())
        finally:
            self._from_outside.on_call = None
            disk.stop()
            self._output.close()
        return _outcome(self._job, ended, self._output, self._reason)

    def _stop(self, why: KillReason) -> None:
        self._reason = self._reason or why
        self._link.kill(self._number)

    async def _to_the_end(self, ending: "asyncio.Future[Ending]") -> Ending:
        try:
            return await asyncio.shield(ending)
        except asyncio.CancelledError:
            self._link.kill(self._number)
            await asyncio.wait([ending], timeout=PIPE_SECONDS)
            raise


def judge(job: Job) -> None:
    """Raise TooLarge for what no kernel would execute."""
    if any(len(os.fsencode(argument)) > _MAX_ARGUMENT for argument in job.argv):
        raise TooLarge(
            f"The command is over {_MAX_ARGUMENT} bytes: write it into a file and run that.", param="command"
        )
    if any("\0" in text for text in (*job.argv, *job.env, *job.env.values(), job.cwd)):
        raise TooLarge("The command has a NUL byte in it.", param="command")


async def kept(work: Callable[[], T], undo: Callable[[T], None]) -> T:
    """What ``work`` gives, done in a thread; ``undo`` is done to it where nobody waits for it any more."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:

        def undone(done: asyncio.Future[T]) -> None:
            if not done.cancelled() and done.exception() is None:
                undo(done.result())

        working.add_done_callback(undone)
        raise


def _opened(job: Job, order: Mapping[str, object]) -> _Pipes:
    with contextlib.ExitStack() as undo:

        def mine(fd: int) -> int:
            undo.callback(os.close, fd)
            return fd

        order_fd = mine(memory("order", json.dumps(order).encode("utf-8", "surrogateescape")))
        stdin = mine(memory("stdin", job.stdin))
        read_out, write_out = map(mine, os.pipe2(os.O_CLOEXEC))
        read_err, write_err = map(mine, os.pipe2(os.O_CLOEXEC))
        undo.pop_all()
    return _Pipes([order_fd, stdin, write_out, write_err], read_out, read_err)


def _outcome(job: Job, ended: Ending, output: Output, reason: KillReason | None) -> Outcome:
    """What became of the command; raises SandboxUnavailable where it was never come to."""
    stderr = bytes(output.stderr)
    if ended.exit_code is None and ended.killed is None:
        text = stderr.decode("utf-8", "replace").strip()[-500:]
        raise SandboxUnavailable(
            f"The sandbox could not be made whole, so nothing was run: {text or 'no reason given'}"
        )
    code, signal, killed = ended_by(job, ended, reason)
    return Outcome(
        code, signal, bytes(output.stdout), stderr, output.dropped, killed, ended.seconds,
        refused_forks=ended.refused_forks, cpu_seconds=ended.cpu_seconds, memory_bytes=ended.max_rss, pids=ended.pids,
    )  # fmt: skip


def ended_by(job: Job, ended: Ending, reason: KillReason | None) -> tuple[int | None, int | None, KillReason | None]:
    """The exit code or the signal that a command ended with, and the limit that did, where one did."""
    code, signal = ended.exit_code, None
    if ended.exit_code is not None and ended.exit_code - 128 in _SIGNALS:
        # bwrap, as shells do, tells a death by signal N as exit code 128 + N.
        code, signal = None, ended.exit_code - 128
    killed = ended.killed and (reason or ended.killed)
    if killed is not None:
        code, signal = None, _SIGKILL
    elif signal == _SIGXCPU or (signal == _SIGKILL and ended.cpu_seconds >= job.limits.cpu_seconds):
        killed = "cpu"
    elif signal == _SIGXFSZ:
        # Sent by the kernel to who writes beyond the limit, and to nobody else.
        killed = "file_size"
    return code, signal, killed
