"""One sandbox from its start to its end: bubblewrap, and the first process of its namespace once that is known."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any, Final

from carrel.sandbox.launcher import limits
from carrel.sandbox.launcher.berths import Berth
from carrel.sandbox.launcher.groups import Place

STUCK_SECONDS: Final = 5.0
FILE_BYTES: Final = 1024
"""What the kernel keeps of a file in memory beside its content."""
_IN_MEMORY: Final = ("/tmp", "/dev/shm")  # noqa: S108 - of the sandbox, where they are its own


class Sandbox:
    """``outer`` is bwrap, ``inner`` the first process inside. One without an end of its own has no ``deadline``.

    In a container ``inner`` is the cradle's first process, and ``contained`` a descriptor of the container's own first.
    ``place`` is its cgroup, where there are any; ``outer`` is then not known before it is there.
    """

    def __init__(
        self, number: int, berth: Berth, status: socket.socket, spec: dict[str, Any], place: Place | None = None
    ) -> None:
        self.id = number
        self.berth = berth
        self.place = place
        self.outer: int | None = None
        self.status = status
        self.rlimits: dict[str, list[int]] = spec["rlimits"]
        limits_inside = self.rlimits or spec.get("oci", {}).get("rlimits", {})
        self._most_bytes: int | None = limits_inside["DATA"][0] if "DATA" in limits_inside else None
        self.since = time.monotonic()
        self.deadline: float | None = None if spec["wall_seconds"] is None else self.since + spec["wall_seconds"]
        self.wants_gate = bool(spec.get("gate"))
        self.inner: int | None = None
        self.inner_handle: int | None = None
        self.contained: int | None = None
        self.text = b""
        self.began = False
        self.wait_status: int | None = None
        self.usage: Any = None
        self.killed: str | None = None
        self.refused: str | None = None

    def kill(self, reason: str | None = None) -> None:
        """Kill the namespace's first process, and with it, by the kernel, all others in there.

        Until bwrap has said who that is, only a group is killed: bwrap alone would leave that process behind, waiting
        for it for ever. It says so within a millisecond, and is killed then.
        """
        if reason is not None:
            self.killed = self.killed or reason
        if self.inner_handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.inner_handle, signal.SIGKILL)
        elif self.place is not None:
            self.place.whole.kill()

    def due(self) -> float | None:
        """When it is to be looked at for its time."""
        if self.killed is None:
            return self.deadline
        if self.inner_handle is None and self.wait_status is None:
            return (self.deadline or self.since) + STUCK_SECONDS
        return None

    def look_at_the_time(self, now: float) -> None:
        """Kill it where its time is over, and bwrap itself where it never said who is inside."""
        due = self.due()
        if due is None or due > now:
            return
        if self.killed is None:
            self.kill("wall_clock")
        elif self.outer is not None:
            os.kill(self.outer, signal.SIGKILL)

    def look_at_its_use(self) -> str | None:
        """Kill it where all that is in it has used more than it may together: the reason, where that is so.

        What is kept in a cgroup is looked at by command.
        """
        if self.killed is not None:
            return None
        if self.place is None:
            over = "memory" if self._holds_too_many_files() else None
        else:
            over = self.place.over() if self.deadline is not None else None
        if over is not None:
            self.kill(over)
        return over

    def _holds_too_many_files(self) -> bool:
        """Whether what lies in memory as files is over its limit: no rlimit counts what the kernel needs for them."""
        try:
            return self._most_bytes is not None and held_in_files(self.first) > self._most_bytes
        except (OSError, ValueError):
            return False

    def hear(self) -> bool:
        """Read what bwrap says; the first process is given its limits and then let go. False where no more comes."""
        try:
            piece = self._heard()
        except (BlockingIOError, ConnectionError):
            piece = b""
        if not piece:
            return False
        self.text += piece
        if not self.began and b"\n" in self.text and self.know_inner() is not None:
            self._let_go()
        return True

    def _heard(self) -> bytes:
        piece, handles, _, _ = socket.recv_fds(self.status, 4096, 1)
        for handle in handles:
            self._give_up(self.contained)
            self.contained = handle
        return piece

    @property
    def entered(self) -> int | None:
        """The process whose namespaces a command is sent into: what was shown may still lie in the socket."""
        if self.inner_handle is not None:
            self.hear()
        return self.inner_handle if self.contained is None else self.contained

    def _let_go(self) -> None:
        if self.killed is not None or self.inner is None:
            self.kill()
            return
        try:
            limits.set_on(self.inner, self.rlimits)
        except ProcessLookupError:
            return
        except (OSError, ValueError) as error:
            self.refused = f"its limits could not be set ({error})"
            self.kill()
            return
        # Where bwrap has given up meanwhile, its end says why.
        with contextlib.suppress(ConnectionError):
            self.status.send(b"1")

    def last_words(self) -> None:
        """What bwrap wrote before it ended, the inner process's name and exit code among it."""
        while True:
            try:
                piece = self._heard()
            except (BlockingIOError, ConnectionError):
                break
            if not piece:
                break
            self.text += piece
        if not self.began and b"\n" in self.text:
            self.know_inner()
            self.kill()
        if self.inner is not None and not _is_child(self.inner_handle):
            # bwrap has waited for it already: it is gone, and all that was in its namespace.
            self.inner = None

    def know_inner(self) -> int | None:
        """Take from bwrap's first line who the first process inside is, None where it is gone already.

        It is held by a descriptor, for numbers are used again.
        """
        inner = int(json.loads(self.text.split(b"\n", 1)[0])["child-pid"])
        self.began = True
        try:
            self.inner_handle = os.pidfd_open(inner)
        except ProcessLookupError:
            return None
        self.inner = inner
        return inner

    def others(self) -> int:
        """How many processes are in it beside its init and its own command; commands sent in are not its init's."""
        first = self.first
        return max(0, len(tree(first)) - 2) if first is not None else 0

    @property
    def first(self) -> int | None:
        """The first process of the namespaces that commands are sent into, None where it is gone."""
        if self.inner is None or self.contained is None:
            return self.inner
        with open(f"/proc/self/fdinfo/{self.contained}", "rb", buffering=0) as file:
            pid = int(file.read().partition(b"\nPid:")[2].split()[0])
        return pid if pid > 0 else None

    def ending(self) -> dict[str, Any]:
        """How it ended, as it is told."""
        code = killed = None
        for line in self.text.splitlines():
            with contextlib.suppress(ValueError):
                told = json.loads(line)
                code, killed = told.get("exit-code", code), told.get("killed", killed)
        killed = self.killed or (self.place.death() if self.place is not None else None) or killed
        if killed is None and code is None and self.began and os.WIFSIGNALED(self.wait_status or 0):
            # Somebody killed bwrap itself, which would have told a command's end: it may have come far.
            killed = "launcher_lost"
        end = ending(code, began=self.began, killed=killed, since=self.since, usage=self.usage)
        return end | used(self.place)

    def close(self) -> None:
        """Give up what is held of it."""
        if self.place is not None:
            self.place.end(kill=True)
        self.status.close()
        self._give_up(self.inner_handle)
        self._give_up(self.contained)

    @staticmethod
    def _give_up(handle: int | None) -> None:
        if handle is not None:
            os.close(handle)


def ending(code: int | None, *, began: bool, killed: str | None, since: float, usage: Any) -> dict[str, Any]:
    """The end of a command, in the form of the packet."""
    return {
        "exit_code": code,
        "began": began,
        "killed": killed,
        "seconds": time.monotonic() - since,
        "cpu_seconds": usage.ru_utime + usage.ru_stime if usage else 0.0,
        "max_rss": usage.ru_maxrss * 1024 if usage else 0,
        "refused_forks": 0,
    }


def used(place: Place | None) -> dict[str, Any]:
    """What a group knows of all that was in it, as it is told."""
    if place is None:
        return {}
    memory = place.peak("memory")
    return {
        "cpu_seconds": place.cpu_seconds, "refused_forks": place.refused_forks(), "pids": place.peak("pids"),
        **({"max_rss": memory} if memory else {}),
    }  # fmt: skip


def held_in_files(process: int | None) -> int:
    """Bytes that the files in a sandbox's own memory take, as far as is known, by one of its processes."""
    if process is None:
        return 0
    taken = 0
    for place in _IN_MEMORY:
        try:
            held = os.open(f"/proc/{process}/root{place}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            # Until it has a root of its own it sees what the launcher does.
            if os.fstat(held).st_dev == _device(place):
                continue
            found = os.fstatvfs(held)
        finally:
            os.close(held)
        taken += (found.f_blocks - found.f_bfree) * found.f_frsize + (found.f_files - found.f_ffree) * FILE_BYTES
    return taken


def _device(place: str) -> int | None:
    try:
        return Path(place).stat().st_dev
    except OSError:
        return None


def tree(root: int) -> list[int]:
    """``root`` and all its descendants."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                    found += [int(number) for number in file.read().split()]
    return found


def _is_child(handle: int | None) -> bool:
    """Whether the process is still to be waited for by this one."""
    if handle is None:
        return False
    try:
        os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
