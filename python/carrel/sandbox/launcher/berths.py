"""Processes that wait to become bubblewrap, each in a network of its own with a gate that listens there already.

Making a network namespace takes longer than all else about a start, so that a few are made beforehand. bubblewrap would
make one too, but one that nothing outside could listen in without a helper inside.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from carrel.sandbox.launcher import GATE_PORT, cradle, kernel, packets

READY: Final = 4
"""How many wait."""
_NO_NAMESPACES: Final = (
    "this machine lets no unprivileged process make a network of its own ({0}): "
    "set kernel.unprivileged_userns_clone=1, and kernel.apparmor_restrict_unprivileged_userns=0 where there is AppArmor"
)


class Berth:
    """One that waits, or has gone on to be a sandbox's bwrap. ``heard`` is called as its gate or problem is known.

    ``became`` is who has gone on: itself, or a child in the group that it was handed.
    """

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid = pid
        self.became: int | None = None
        self.gate: int | None = None
        self.problem: str | None = None
        self.known = False
        self.heard: Callable[[], None] = lambda: None
        self._end = end
        self._in_group = False

    def fileno(self) -> int:
        """Its end of the socket."""
        return self._end.fileno()

    @property
    def has_more_to_say(self) -> bool:
        """Whether it is to be listened to: until its gate is known, and who has gone on."""
        return not self.known or (self._in_group and self.became is None and self.problem is None)

    def go(self, order: dict[str, Any], descriptors: Sequence[int], group: int | None = None) -> None:
        """Let it go on, with ``descriptors`` as its 0, 1, 2 and on; raises OSError where it is gone.

        ``{"argv": [...]}`` is what it becomes bubblewrap with; ``{"oci": true}`` makes it the cradle of a container.
        With a ``group`` a child of the launcher's in that group goes on, which is `heard` of.
        """
        more = [] if group is None else [group]
        self._in_group = group is not None
        try:
            packets.send(self._end, {**order, "group": group is not None}, [*descriptors, *more])
            if group is None:
                self.became = self.pid
        except ConnectionError as error:
            self.hear()
            raise OSError(self.problem or str(error)) from error

    def hear(self) -> None:
        """Take in what it has to say."""
        try:
            data, descriptors = packets.receive(self._end)
        except ConnectionError:
            data, descriptors = b"", []
        self.known = True
        if data:
            told = json.loads(data)
            self.problem = told.get("problem")
            self.became = told.get("became", self.became)
        elif self.gate is None or self.became is None:
            self.problem = self.problem or "it ended before it had begun"
        if descriptors:
            self.gate = descriptors[0]
        self.heard()

    def take_gate(self) -> int | None:
        """The listening descriptor, from now on the caller's."""
        gate, self.gate = self.gate, None
        return gate

    def close(self) -> None:
        """Give up what is held of it; one that still waits ends by that."""
        self._end.close()
        gate = self.take_gate()
        if gate is not None:
            os.close(gate)


class Berths:
    """Those that wait. ``bwrap`` is the program that they become."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.bwrap = ""
        self._selector = selector
        self._waiting: list[Berth] = []
        self._wanted = 0

    @property
    def short(self) -> bool:
        """Whether fewer wait than should."""
        return len(self._waiting) < self._wanted

    def take(self) -> Berth:
        """One to use now; made where none waits."""
        self._wanted = READY
        return self._waiting.pop(0) if self._waiting else self._made()

    def listen(self, berth: Berth) -> None:
        """Hear what ``berth`` has to say."""
        if berth.has_more_to_say and berth.fileno() not in self._selector.get_map():
            self._selector.register(berth, selectors.EVENT_READ, lambda: self._heard(berth))

    def refill(self) -> None:
        """Make one more."""
        self._waiting.append(self._made())

    def lost(self, pid: int) -> bool:
        """Whether ``pid``, which ended, was one that waited: then no more are made until one is needed."""
        for berth in self._waiting:
            if berth.pid == pid:
                self._waiting.remove(berth)
                self.done(berth)
                self._wanted = 0
                return True
        return False

    def done(self, berth: Berth) -> None:
        """Hear no more of ``berth``."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(berth)
        berth.close()

    def made_in(self, group: int) -> Berth:
        """One more, in the cgroup behind the descriptor ``group``; raises OSError where the kernel makes none there."""
        return self._made(group)

    def _made(self, group: int | None = None) -> Berth:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork() if group is None else kernel.fork_into(group)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            _lie_in_wait(theirs, self.bwrap)
        theirs.close()
        berth = Berth(pid, ours)
        self.listen(berth)
        return berth

    def _heard(self, berth: Berth) -> None:
        self._selector.unregister(berth)
        berth.hear()
        self.listen(berth)


def as_a_child() -> None:
    """Undo, in a fork of the launcher, what is the launcher's alone about signals."""
    signal.set_wakeup_fd(-1)
    # The interpreter ignores two of them from its start, and who starts it in the background of a script three more; so
    # would every program that it becomes.
    for number in (
        signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP,
    ):  # fmt: skip
        signal.signal(number, signal.SIG_DFL)


def _lie_in_wait(end: socket.socket, bwrap: str) -> NoReturn:
    """What such a process does; it never comes back."""
    try:
        as_a_child()
        os.closerange(3, end.fileno())
        os.closerange(end.fileno() + 1, 1 << 20)
        try:
            kernel.leave_network()
            listener = kernel.listening(GATE_PORT)
        except OSError as error:
            packets.send(end, {"problem": _NO_NAMESPACES.format(error.strerror)})
            os._exit(1)
        packets.send(end, {}, [listener.fileno()])
        listener.close()
        data, descriptors = packets.receive(end)
        if not data:
            os._exit(0)
        order = json.loads(data)
        if order["group"]:
            _go_on_in(descriptors.pop(), end)
        packets.placed(descriptors)
        if "oci" in order:
            cradle.become(len(descriptors))
        os.execve(bwrap, order["argv"], {})  # noqa: S606 - what the whole is for
    except BaseException as error:  # noqa: BLE001 - nothing may go on as a second launcher
        with contextlib.suppress(OSError):
            os.write(2, f"launcher: {error}\n".encode())
    os._exit(127)


def _go_on_in(group: int, end: socket.socket) -> None:
    """Be in the group, by a child that takes this one's place or, where the kernel makes none there, by moving."""
    try:
        child = kernel.fork_into(group, sibling=True)
    except OSError:
        with open(f"/proc/self/fd/{group}/cgroup.procs", "wb", buffering=0) as file:
            file.write(b"0")
        child = os.getpid()
    if child:
        packets.send(end, {"became": child})
        if child != os.getpid():
            os._exit(0)
