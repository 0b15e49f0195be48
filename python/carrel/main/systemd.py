"""What systemd and this process say to each other: that it is ready, alive, stopping; the sockets it was handed.

The protocols are those of sd_notify(3) and sd_listen_fds(3). Without systemd nothing is said and nothing was handed.
"""

import asyncio
import os
import socket
from collections.abc import MutableMapping
from typing import Final

import structlog

FIRST_SOCKET: Final = 3
_FEWEST_SECONDS: Final = 0.1
_log = structlog.get_logger(__name__)


class Notifier:
    """Tells the service manager what this process does. It takes what it needs out of ``environ``: no child is told."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        watched = environ.pop("WATCHDOG_USEC", "")
        by = environ.pop("WATCHDOG_PID", str(os.getpid()))
        self._watchdog = int(watched) / 1e6 if watched.isdigit() and by == str(os.getpid()) else None

    @property
    def watchdog_seconds(self) -> float | None:
        """After how long a silence it is ended; None where nobody listens for one."""
        return self._watchdog if self._address else None

    def tell(self, **state: str | int) -> None:
        """Send assignments, as ``READY=1``; one that cannot be sent is logged and lost."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in state.items())
        # A leading @ is how a name without a file is written.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto(text.encode(), address)
        except OSError as error:
            _log.warning("the service manager is not told", reason=error.strerror, what=next(iter(state), ""))

    def ready(self, status: str) -> None:
        """It serves; ``status`` is one line for `systemctl status`."""
        self.tell(READY=1, STATUS=status)

    def stopping(self, status: str, *, seconds: float) -> None:
        """It ends, which may take that long from now."""
        self.tell(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=int(seconds * 1e6))

    async def keep_alive(self) -> None:
        """Say that the event loop turns, twice in the time after which a silent process is ended."""
        if self.watchdog_seconds is None:
            return
        while True:
            self.tell(WATCHDOG=1)
            await asyncio.sleep(max(_FEWEST_SECONDS, self.watchdog_seconds / 2))


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that were handed to this process by whoever started it; taken out of ``environ``."""
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    made = []
    for fd in range(FIRST_SOCKET, FIRST_SOCKET + int(count)):
        os.set_inheritable(fd, False)
        made.append(socket.socket(fileno=fd))
    return made
