"""The loop: packets in, sandboxes and commands out, endings back.

``FD UID GROUPS``: the launcher's end of the socket, who to become, and the prepared cgroup; the last two may be empty.
"""

import contextlib
import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import Any, Final

from carrel.sandbox.launcher import ARGUMENTS_FD, kernel, packets
from carrel.sandbox.launcher.berths import Berth, Berths
from carrel.sandbox.launcher.entered import AGAIN_SECONDS, Entered
from carrel.sandbox.launcher.groups import Groups, Place
from carrel.sandbox.launcher.reserve import IDLE_SECONDS, Reserve
from carrel.sandbox.launcher.sandboxes import STUCK_SECONDS, Sandbox

_LOOK_SECONDS: Final = 0.25
"""How often the processor time of a whole group is looked at; each of its processes has its own limit besides."""
_REFILL_SECONDS: Final = 0.004
"""How long nothing must have happened before another berth is made: a start under way goes before."""


class Launcher:
    """All that runs, and the gateway's orders about it."""

    def __init__(self, gateway: socket.socket, groups: Groups | None = None, no_groups: str = "") -> None:
        self._gateway = gateway
        self._groups = groups
        self._no_groups = no_groups
        self._selector = selectors.DefaultSelector()
        self._berths = Berths(self._selector)
        self._reserve = Reserve(groups, self._berths) if groups is not None else None
        self._sandboxes: dict[int, Sandbox] = {}
        self._entered: dict[int, Entered] = {}
        self._by_pid: dict[int, Sandbox | Entered] = {}
        self._unclaimed: dict[int, tuple[int, Any]] = {}
        self._files: list[int] = []
        self._filters: list[bytes] = []
        self._next_look: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Work until the gateway's end of the socket is gone, then kill what runs."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._gateway, selectors.EVENT_READ, None)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._woken)
        self._tell(
            {
                "ready": os.getpid(),
                "controllers": sorted(self._groups.controllers) if self._groups is not None else None,
                "no_groups": self._no_groups,
            }
        )
        # What is there now is shared with the forks, and is not to be copied for being counted.
        gc.freeze()
        try:
            while self._turn():
                pass
        finally:
            _leave_nobody()
            if self._reserve is not None:
                self._reserve.close()

    def _turn(self) -> bool:
        events = self._selector.select(self._patience())
        for key, _ in events:
            if key.data is None:
                if not self._order():
                    return False
            elif self._selector.get_map().get(key.fd) is key:
                key.data()
        self._reap()
        now = time.monotonic()
        for sandbox in self._sandboxes.values():
            sandbox.look_at_the_time(now)
        if self._next_look is not None and self._next_look <= now:
            self._look_at_use(now)
        for command in list(self._entered.values()):
            if command.deadline is not None and command.deadline <= now and not command.dying:
                command.kill("wall_clock")
            if command.dying:
                self._bury(command)
        self._prepare(idle=not events)
        return True

    def _prepare(self, *, idle: bool) -> None:
        """Have ready what starts are made of, where there is nothing else to do."""
        reserve = self._reserve
        with contextlib.suppress(OSError):
            if idle and self._berths.short:
                self._berths.refill()
            elif idle and reserve is not None and reserve.short:
                reserve.refill()
        if reserve is not None and (due := reserve.due()) is not None and time.monotonic() - due >= IDLE_SECONDS:
            reserve.tidy(time.monotonic())

    def _look_at_use(self, now: float) -> None:
        for sandbox in self._sandboxes.values():
            over = sandbox.look_at_its_use()
            for command in self._entered.values():
                if over is not None and command.sandbox is sandbox and not command.dying:
                    command.kill(over)
        for command in self._entered.values():
            command.look_at_its_use()
        self._next_look = now + _LOOK_SECONDS if self._sandboxes else None

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _patience(self) -> float | None:
        now = time.monotonic()
        waits = [due - now for sandbox in self._sandboxes.values() if (due := sandbox.due()) is not None]
        waits += [AGAIN_SECONDS if one.dying else (one.deadline or now) - now for one in self._entered.values()]
        if self._berths.short or (self._reserve is not None and self._reserve.short):
            waits.append(_REFILL_SECONDS)
        if self._reserve is not None and (due := self._reserve.due()) is not None:
            waits.append(due + IDLE_SECONDS - now)
        if self._next_look is not None:
            waits.append(self._next_look - now)
        return max(0.0, min(waits)) if waits else None

    # --- orders ---

    def _order(self) -> bool:
        try:
            data, descriptors = packets.receive(self._gateway)
        except ConnectionError:
            return False
        if not data:
            return False
        try:
            self._obey(json.loads(data), descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
        return True

    def _obey(self, order: dict[str, Any], descriptors: list[int]) -> None:
        match order["do"]:
            case "setup":
                self._berths.bwrap = order["bwrap"]
                self._files = [packets.moved(fd) for fd in descriptors]
                self._filters = [packets.content(fd) for fd in descriptors[: order["filters"]]]
            case "run" | "enter" as what:
                try:
                    begin = self._start if what == "run" else self._enter
                    begin(order, json.loads(packets.content(descriptors[0])), descriptors[1:])
                except (OSError, ValueError, KeyError, IndexError) as error:
                    self._tell({"id": order["id"], "failed": str(error)})
            case "count":
                sandbox = self._sandboxes.get(order["of"])
                self._tell({"id": order["id"], "count": sandbox.others() if sandbox is not None else 0})
            case "kill":
                self._kill(order["id"])

    def _kill(self, number: int) -> None:
        sandbox, command = self._sandboxes.get(number), self._entered.get(number)
        if sandbox is not None:
            sandbox.deadline = min(sandbox.deadline or 1e18, time.monotonic())
            sandbox.kill("cancelled")
        elif command is not None:
            command.kill("cancelled")
            self._bury(command)

    def _start(self, order: dict[str, Any], spec: dict[str, Any], descriptors: list[int]) -> None:
        stdin, stdout, stderr, workspace, *more = descriptors
        mine, theirs = socket.socketpair()
        made: list[int] = []
        kept = spec["wall_seconds"] is None
        place: Place | None = None
        reserved = self._reserve.take(spec["group"]) if self._reserve is not None and not kept else None
        if reserved is None:
            berth = self._berths.take()
        else:
            place, berth = reserved
        try:
            if self._groups is not None:
                place = place or self._groups.begin(f"s-{order['id']}", spec["group"], kept=kept)
            self._next_look = self._next_look or time.monotonic() + _LOOK_SECONDS
            oci = spec.get("oci")
            told = packets.nul_ended(spec["args"]) if oci is None else json.dumps(oci).encode()
            arguments = packets.memory("arguments", told)
            made.append(arguments)
            # Opened anew, for the offset of a descriptor is shared by all who read through it.
            made += [os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC) for fd in (*self._files, *more)]
            argv = ["bwrap", "--args", str(ARGUMENTS_FD), "--", *spec.get("argv", ())]
            sandbox = Sandbox(order["id"], berth, mine, spec, place)
            handed = [stdin, stdout, stderr, workspace, arguments, theirs.fileno(), theirs.fileno(), *made[1:]]
            going = {"argv": argv} if oci is None else {"oci": True}
            berth.go(going, handed, place.fd if place is not None and reserved is None else None)
        except BaseException:
            mine.close()
            if place is not None:
                place.end(kill=True)
            self._berths.done(berth)
            raise
        finally:
            theirs.close()
            for fd in made:
                os.close(fd)
        mine.setblocking(False)
        self._sandboxes[sandbox.id] = sandbox
        self._selector.register(mine, selectors.EVENT_READ, lambda: self._status(sandbox))
        berth.heard = lambda: self._berth_heard(sandbox, berth)
        self._berths.listen(berth)
        berth.heard()

    def _berth_heard(self, sandbox: Sandbox, berth: Berth) -> None:
        if berth.known:
            self._gate_known(sandbox, berth)
        if sandbox.outer is None and berth.became is not None:
            self._known(sandbox, berth.became)
        elif sandbox.outer is None and berth.problem is not None:
            self._end_sandbox(sandbox)

    def _known(self, it: Sandbox | Entered, pid: int) -> None:
        """Take in who it is; it may have ended already."""
        if isinstance(it, Sandbox):
            it.outer = pid
        self._by_pid[pid] = it
        ended = self._unclaimed.pop(pid, None)
        if ended is not None:
            self._ended(pid, *ended)

    def _gate_known(self, sandbox: Sandbox, berth: Berth) -> None:
        if berth.problem is not None:
            sandbox.refused = berth.problem
        gate = berth.take_gate()
        if gate is not None:
            try:
                if sandbox.wants_gate:
                    self._tell({"id": sandbox.id, "gate": True}, [gate])
            finally:
                os.close(gate)

    def _enter(self, order: dict[str, Any], spec: dict[str, Any], descriptors: list[int]) -> None:
        sandbox = self._sandboxes.get(order["in"])
        if sandbox is None or sandbox.killed is not None:
            raise OSError("the sandbox is not there any more")
        command = Entered(order["id"], sandbox, spec)
        try:
            command.start(spec, descriptors, self._filters)
        except BaseException:
            command.close()
            raise
        self._entered[command.id] = command
        self._selector.register(command, selectors.EVENT_READ, lambda: self._arrived(command))

    # --- what becomes of them ---

    def _status(self, sandbox: Sandbox) -> None:
        knew = sandbox.began
        if not sandbox.hear():
            with contextlib.suppress(KeyError):
                self._selector.unregister(sandbox.status)
        elif sandbox.began and not knew and sandbox.inner is not None:
            self._by_pid[sandbox.inner] = sandbox

    def _arrived(self, command: Entered) -> None:
        self._selector.unregister(command)
        command.arrive()
        if command.pid is not None:
            self._known(command, command.pid)
        elif command.refused is not None:
            self._end_command(command)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._by_pid:
                self._ended(pid, status, usage)
            elif self._reserve is not None and self._reserve.lost(pid):
                continue
            elif not self._berths.lost(pid) and self._somebody_is_unknown:
                # It may be one that has gone in, and died, before it was heard of.
                self._unclaimed[pid] = (status, usage)

    @property
    def _somebody_is_unknown(self) -> bool:
        return any(command.pid is None for command in self._entered.values()) or any(
            sandbox.outer is None for sandbox in self._sandboxes.values()
        )

    def _ended(self, pid: int, status: int, usage: Any) -> None:
        it = self._by_pid.pop(pid)
        if isinstance(it, Entered):
            it.wait_status, it.usage = status, usage
            if not it.dying:
                self._end_command(it)
            return
        if pid == it.outer:
            inner = it.inner
            it.wait_status = status
            it.last_words()
            if it.inner is not None:
                self._by_pid[it.inner] = it
            elif inner is not None:
                self._by_pid.pop(inner, None)
        else:
            it.usage = usage
            it.inner = None
        if it.wait_status is not None and it.inner is None:
            self._end_sandbox(it)

    def _bury(self, command: Entered) -> None:
        """Go on killing a command; it has ended when nothing that it started is left."""
        others = [
            other for other in self._entered.values() if other is not command and other.sandbox is command.sandbox
        ]
        if not command.go_on_killing(others) and (command.wait_status is not None or command.refused is not None):
            self._end_command(command)

    def _end_command(self, command: Entered) -> None:
        del self._entered[command.id]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(command)
        if command.pid is not None:
            self._by_pid.pop(command.pid, None)
        told = {"failed": command.refused} if command.refused is not None else {"ended": command.ending()}
        self._tell({"id": command.id, **told})
        command.close()
        if not self._somebody_is_unknown:
            self._unclaimed.clear()

    def _end_sandbox(self, sandbox: Sandbox) -> None:
        del self._sandboxes[sandbox.id]
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sandbox.status)
        self._berths.done(sandbox.berth)
        told = {"failed": sandbox.refused} if sandbox.refused is not None else {"ended": sandbox.ending()}
        self._tell({"id": sandbox.id, **told})
        sandbox.close()

    def _tell(self, packet: dict[str, Any], descriptors: list[int] | None = None) -> None:
        with contextlib.suppress(ConnectionError):
            packets.send(self._gateway, packet, descriptors or ())


def _leave_nobody() -> None:
    """Kill every child, and those that are left to this process when their parents go, until there is none."""
    until = time.monotonic() + STUCK_SECONDS
    while time.monotonic() < until:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0) as file:
            children = [int(number) for number in file.read().split()]
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.002)


def _become(uid: int | None) -> None:
    """Give up what root may, where the launcher was told a uid; it goes no further as uid 0."""
    if uid is not None and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        # A change of uid makes the process unreadable to itself, which bwrap's namespaces do not bear.
        kernel.readable_by_others(yes=True)
    if 0 in os.getresuid() or 0 in os.getresgid():
        raise SystemExit("launcher: sandboxes are never started by uid 0 or gid 0")
    try:
        kernel.adopt_orphans()
    except OSError:
        raise SystemExit("launcher: it cannot take the place of init for its sandboxes") from None
    os.umask(0o077)


def main() -> None:
    """Start, with the socket's descriptor, the uid and the cgroup from the command line."""
    fd = int(sys.argv[1])
    keep = packets.moved(fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.chdir("/")
    uid, path = sys.argv[2:4]
    groups, no_groups = None, ""
    try:
        groups = Groups(path) if path else None
    except OSError as error:
        no_groups = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    _become(int(uid) if uid else None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Ctrl-C in a terminal reaches the whole group: the gateway drains first and then ends this by its socket.
        signal.signal(number, signal.SIG_IGN)
    Launcher(socket.socket(fileno=keep), groups, no_groups).serve()


if __name__ == "__main__":
    main()
