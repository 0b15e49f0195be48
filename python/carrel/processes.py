"""The one way to start a program and wait for it: a list of arguments, a clean environment, a deadline, a cap.

Programs are started by ``subprocess`` in a worker thread (vfork, no preexec_fn), so that neither the event loop's
own child watcher nor the size of this process matters.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carrel.errors import CarrelError


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
) -> Completed:
    """Run a program to its end; raises ProcessFailed where it cannot start or is over ``timeout`` seconds.

    The program leads a process group of its own, which is killed whole on time-out and on cancellation. A program whose
    children leave its group is told to end first (SIGTERM), and has ``gentle`` seconds to take them with it.
    """
    try:
        process = await asyncio.to_thread(_start, argv, env, cwd)
    except OSError as error:
        raise ProcessFailed(f"{argv[0]} cannot be started: {error.strerror}.") from error
    waiting = asyncio.ensure_future(asyncio.to_thread(process.communicate, stdin, timeout))
    try:
        stdout, stderr = await asyncio.shield(waiting)
    except subprocess.TimeoutExpired:
        await _end(process, asyncio.ensure_future(asyncio.to_thread(process.communicate)), gentle)
        raise ProcessFailed(f"{argv[0]} was over its {timeout:g} s and was killed.") from None
    except asyncio.CancelledError:
        await _end(process, waiting, gentle)
        raise
    return Completed(process.returncode, stdout, stderr)


def _start(argv: Sequence[str], env: Mapping[str, str], cwd: str | None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
    )


async def _end(process: "subprocess.Popen[bytes]", waiting: "asyncio.Future[Any]", gentle: float) -> None:
    """End the group and wait for it, whatever cancels the wait meanwhile."""
    try:
        if gentle > 0:
            _signal(process, signal.SIGTERM)
            await asyncio.wait([waiting], timeout=gentle)
    finally:
        _signal(process, signal.SIGKILL)
        await asyncio.wait([waiting])


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
