"""The one way to start a program and wait for it: a list of arguments, a clean environment, a deadline, a cap.

Programs are started by ``subprocess`` in a worker thread (vfork, no preexec_fn), so that neither the event loop's
own child watcher nor the size of this process matters.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from carrel.errors import CarrelError
from carrel.priority import step_back

_PIECE: Final = 1 << 16
_PIECES: Final = 16


class ProcessFailed(CarrelError):
    """A program could not be started, ended with a failure, or was over its time."""

    code = "process_failed"


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended, with what it printed."""

    returncode: int
    stdout: bytes
    stderr: bytes

    def check(self, what: str) -> "Completed":
        """Itself where the program succeeded; raises ProcessFailed with the end of its standard error."""
        if self.returncode:
            tail = self.stderr.decode("utf-8", "replace").strip()[-2000:]
            raise ProcessFailed(f"{what} failed with status {self.returncode}: {tail}")
        return self


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109 - the deadline kills the process group, which a cancel scope would not
    stdin: bytes = b"",
    cwd: str | None = None,
    gentle: float = 0.0,
    limits: Mapping[int, int] | None = None,
    on_error: Callable[[bytes], None] | None = None,
    behind: bool = False,
    name: str | None = None,
) -> Completed:
    """Run a program to its end; raises ProcessFailed where it cannot start or is over ``timeout`` seconds.

    The program leads a process group of its own. On time-out and on cancellation the group is killed whole, and with it
    all processes that descend from the program, whatever group they have gone to. A program that has more to do than
    die is told to end first (SIGTERM), and has ``gentle`` seconds for it. ``limits`` are the kernel's, by ``RLIMIT_*``;
    they hold from just after the start. ``on_error`` is handed standard error as it comes, which is not kept then. One
    that works ``behind`` leaves a processor to whoever else wants it; see `priority`. ``name`` is what an
    error calls it, by default its first word.
    """
    with contextlib.ExitStack() as stack:
        stderr = subprocess.PIPE if on_error is None else stack.enter_context(_heard(on_error))
        starting = asyncio.ensure_future(asyncio.to_thread(_start, argv, env, cwd, limits or {}, stderr))
        try:
            process = await asyncio.shield(starting)
        except OSError as error:
            raise ProcessFailed(f"{argv[0]} cannot be started: {error.strerror}.") from error
        except asyncio.CancelledError:
            # It may be there already, and nobody else knows of it.
            starting.add_done_callback(_kill_at_once)
            await asyncio.wait([starting])
            with contextlib.suppress(OSError):
                await asyncio.to_thread(starting.result().communicate)
            raise
        if behind:
            step_back(process.pid)
        stdout, errors = await _ended(process, name or argv[0], stdin, timeout, gentle)
    return Completed(process.returncode, stdout, errors or b"")


def _kill_at_once(starting: "asyncio.Future[subprocess.Popen[bytes]]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        _signal(starting.result(), signal.SIGKILL)


async def _ended(
    process: "subprocess.Popen[bytes]", name: str, stdin: bytes, seconds: float, gentle: float
) -> tuple[bytes, bytes | None]:
    """What it printed, once it has ended by itself."""
    waiting = asyncio.ensure_future(asyncio.to_thread(process.communicate, stdin, seconds))
    try:
        return await asyncio.shield(waiting)
    except subprocess.TimeoutExpired:
        await _end(process, asyncio.ensure_future(asyncio.to_thread(process.communicate)), gentle)
        raise ProcessFailed(f"{name} was over its {seconds:g} s and was killed.") from None
    except asyncio.CancelledError:
        await _end(process, waiting, gentle)
        raise


@contextlib.contextmanager
def _heard(hand_on: Callable[[bytes], None]) -> Iterator[int]:
    """A descriptor for standard error; what is written to it is handed on until the end of the block."""
    hear, speak = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(hear, False)
    loop = asyncio.get_running_loop()

    def read() -> bool:
        try:
            piece = os.read(hear, _PIECE)
        except BlockingIOError:
            return False
        if piece:
            hand_on(piece)
        else:
            loop.remove_reader(hear)
        return bool(piece)

    loop.add_reader(hear, read)
    try:
        yield speak
        # What is in the pipe when the program has ended; no more than that, for a stray child may go on writing.
        for _ in range(_PIECES):
            if not read():
                break
    finally:
        loop.remove_reader(hear)
        os.close(hear)
        os.close(speak)


def _start(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None, limits: Mapping[int, int], stderr: int
) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    for limit, value in limits.items():
        # It may be over already.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, limit, (value, value))
    return process


async def _end(process: "subprocess.Popen[bytes]", waiting: "asyncio.Future[Any]", gentle: float) -> None:
    """End the group and wait for it, whatever cancels the wait meanwhile."""
    # Once their parent is gone nothing tells whose they were.
    below = _below(process.pid)
    try:
        if gentle > 0:
            _signal(process, signal.SIGTERM)
            await asyncio.wait([waiting], timeout=gentle)
    finally:
        below += _below(process.pid)
        _signal(process, signal.SIGKILL)
        for descriptor in below:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        await asyncio.wait([waiting])


def _below(pid: int) -> list[int]:
    """Descriptors of all that descend from ``pid``: a number may become another process's, a descriptor not."""
    found: list[int] = []
    parents = [pid]
    while parents:
        parent = parents.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                for child in (task / "children").read_text().split():
                    found.append(os.pidfd_open(int(child)))
                    parents.append(int(child))
    return found


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
