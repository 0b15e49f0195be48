"""One more command in a sandbox that runs already: from the outside into its namespaces, with its limits and filters.

The process that goes in is a fork of the launcher until it executes the command. It cannot be looked into meanwhile (it
is not dumpable), holds no descriptor but the command's own, and executes only what lies on a read-only mount, which
nobody inside can have put there: so nothing of the host's can be reached through it.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import termios
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn

from carrel.sandbox.launcher import kernel, limits, packets
from carrel.sandbox.launcher.berths import as_a_child
from carrel.sandbox.launcher.sandboxes import Sandbox, ending, tree, used

KILL_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 0.005


class Entered:
    """A command in ``sandbox``; ``pid`` is known once it is inside, waiting for its limits and to be let go."""

    def __init__(self, number: int, sandbox: Sandbox, spec: dict[str, Any]) -> None:
        self.id = number
        self.sandbox = sandbox
        self.rlimits: dict[str, list[int]] = spec["rlimits"]
        self.since = time.monotonic()
        self.deadline: float | None = self.since + spec["wall_seconds"]
        self.pid: int | None = None
        self.killed: str | None = None
        self.refused: str | None = None
        self.wait_status: int | None = None
        self.usage: Any = None
        self._handle: int | None = None
        self._began_at = (0, 0)
        self._dying_since: float | None = None
        self._heard, self._go = -1, -1
        self._place = sandbox.place.command(number, spec["group"]) if sandbox.place is not None else None

    def start(self, spec: dict[str, Any], descriptors: list[int], filters: list[bytes]) -> None:
        """Send a process in. ``fileno`` tells when it has arrived."""
        inside = self.sandbox.entered
        if inside is None:
            raise OSError("the sandbox is not there any more")
        self._heard, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        gone, self._go = os.pipe2(os.O_CLOEXEC)
        try:
            if self._forked() == 0:
                _go_in((inside, told, gone), spec, descriptors, filters)
        finally:
            os.close(told)
            os.close(gone)

    def _forked(self) -> int:
        """Fork, into the command's group where there is one."""
        if self._place is None:
            return os.fork()
        try:
            return kernel.fork_into(self._place.fd)
        except OSError:
            child = os.fork()
            if child == 0:
                self._place.whole.join()
            return child

    def fileno(self) -> int:
        """Where it says who it is."""
        return self._heard

    def arrive(self) -> None:
        """Take in who it is, set its limits and let it go."""
        try:
            told = json.loads(os.read(self._heard, 4096) or b"{}")
        except BlockingIOError:
            told = {}
        if "pid" not in told:
            self.refused = told.get("problem", "the sandbox could not be entered")
            return
        self.pid = told["pid"]
        try:
            self._handle = os.pidfd_open(told["pid"])
            self._began_at = _stat(told["pid"])[1]
            limits.set_on(told["pid"], self.rlimits)
        except ProcessLookupError:
            return
        except (OSError, ValueError) as error:
            self.refused = f"its limits could not be set ({error})"
            self.kill("cancelled")
            return
        if self.killed is None:
            with contextlib.suppress(OSError):
                os.write(self._go, b"1")

    def kill(self, reason: str) -> None:
        """Begin to kill the command with all that it may have started; `go_on_killing` does it."""
        self.killed = self.killed or reason
        self._dying_since = self._dying_since or time.monotonic()

    def look_at_its_use(self) -> None:
        """Kill it where all that it began has used more than it may together."""
        over = self._place.over() if self._place is not None and not self.dying else None
        if over is not None:
            self.kill(over)

    @property
    def dying(self) -> bool:
        """Whether it is being killed."""
        return self._dying_since is not None

    def go_on_killing(self, others: Iterable["Entered"]) -> bool:
        """Kill what is left of it, ``others`` being the live commands beside it; False where nothing was left.

        Its group is killed whole. Without groups, what its descendants gave up to the namespace's init cannot be told
        from what an earlier command left there but by when it began: all that began since this command did goes. Where
        that has no end, the sandbox goes.
        """
        if self._place is not None:
            self._place.whole.kill()
            return self._place.whole.populated
        if self.pid is None:
            return self.wait_status is None and self.refused is None
        spared = {pid for other in others if other.pid is not None for pid in tree(other.pid)}
        left = 0
        for pid in self._victims():
            if pid not in spared:
                left += 1
                _kill_that_began(pid, since=self._began_at)
        if left and time.monotonic() - (self._dying_since or 0.0) > KILL_SECONDS:
            self.sandbox.kill("cancelled")
        return bool(left)

    def _victims(self) -> Iterator[int]:
        if self.wait_status is None and self.pid is not None:
            yield from tree(self.pid)
        inner = self.sandbox.first
        if inner is not None:
            for pid in tree(inner):
                with contextlib.suppress(OSError):
                    state, began = _stat(pid)
                    if pid != inner and state != "Z" and began >= self._began_at:
                        yield pid

    def ending(self) -> dict[str, Any]:
        """How it ended, as it is told: a death by signal N is code 128 + N, as bwrap tells it."""
        status = self.wait_status
        code = None
        if status is not None:
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        killed = self.killed or self.sandbox.killed or (self._place.death() if self._place is not None else None)
        return ending(code, began=True, killed=killed, since=self.since, usage=self.usage) | used(self._place)

    def close(self) -> None:
        """Give up what is held of it; a process that still waits to be let go ends by that."""
        for fd in (self._heard, self._go, self._handle if self._handle is not None else -1):
            if fd >= 0:
                os.close(fd)
        if self._place is not None:
            # What it left in the background lives on, and its group with it.
            self._place.end(kill=False)


def _stat(pid: int) -> tuple[str, tuple[int, int]]:
    """The state of a process, and when it began: the kernel's ticks, and within one of them its number inside."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        fields = file.read().rpartition(b")")[2].split()
    with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        inside = file.read().partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
    return fields[0].decode(), (int(fields[19]), int(inside[-1]))


def _kill_that_began(pid: int, *, since: tuple[int, int]) -> None:
    """Kill ``pid`` where it is still a process that began then or later: numbers are used again."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _stat(pid)[1] >= since:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        pass
    finally:
        os.close(handle)


def _go_in(ways: tuple[int, int, int], spec: dict[str, Any], descriptors: list[int], filters: list[bytes]) -> NoReturn:
    """What a fork of the launcher does to become the command; it never comes back."""
    try:
        as_a_child()
        packets.placed([*descriptors, *ways])
        inside, told, gone = range(len(descriptors), len(descriptors) + 3)
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"1000")
        try:
            kernel.readable_by_others(yes=False)
            kernel.enter(inside)
            pid = os.fork()
        except OSError as error:
            os.write(told, json.dumps({"problem": _why_not(error)}).encode())
            os._exit(1)
        if pid:
            os.write(told, json.dumps({"pid": pid}).encode())
            os._exit(0)
        if not os.read(gone, 1):
            os._exit(1)
        os.closerange(len(descriptors), 1 << 20)
        _become(spec, filters)
    except BaseException as error:  # noqa: BLE001 - nothing may go on as a second launcher
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode())
    os._exit(126)


def _why_not(error: OSError) -> str:
    if error.errno == errno.EAGAIN:
        return "it holds as many processes and threads as it may (sandbox.pids): end some of them, or stop it"
    return f"the sandbox could not be entered ({error.strerror})"


def _become(spec: dict[str, Any], filters: list[bytes]) -> NoReturn:
    argv = spec["argv"]
    os.setsid()
    if spec.get("terminal"):
        # By the descriptor: who opened the terminal is another uid, and its name is not known inside.
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.umask(0o022)
    os.chdir(spec["cwd"])
    program = _found(argv[0], spec["env"].get("PATH", ""))
    if program is None:
        os.write(2, f"{argv[0]}: command not found\n".encode())
        os._exit(127)
    kernel.give_up_privileges()
    for code in (*filters, *map(bytes.fromhex, spec.get("filters", ()))):
        kernel.filter_calls(code)
    os.execve(program, argv, spec["env"])  # noqa: S606 - what the whole is for


def _found(name: str, search_path: str) -> str | None:
    """The program called ``name``, where it lies on a mount that nobody inside can write to."""
    places = [name] if "/" in name else [f"{directory}/{name}" for directory in search_path.split(":") if directory]
    for place in places:
        try:
            if os.access(place, os.X_OK) and os.statvfs(place).f_flag & os.ST_RDONLY:
                return place
        except OSError:
            continue
    return None
