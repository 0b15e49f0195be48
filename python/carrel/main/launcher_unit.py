"""`carrel-launcher`: the launcher of sandboxes as a service of its own, beside the gateway and not beneath it.

systemd starts it for each connection to its socket (`Accept=yes`), in a unit that has what bubblewrap needs and neither
network nor secrets. It divides the unit's own cgroup, and becomes the same program that a gateway starts where there
is no such unit.
"""

import os
import socket
import struct
import sys

from carrel.sandbox import delegation
from carrel.sandbox.launcher.packets import memory
from carrel.sandbox.launching import archive, command

FIRST_SOCKET = 3
"""Where systemd hands over the first descriptor, sd_listen_fds(3)."""


def run() -> None:
    """The entry point of ``carrel-launcher``."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        raise SystemExit("carrel-launcher: systemd starts this, with one connection: see docs/explanation/nixos.md.")
    if 0 in os.getresuid() or 0 in os.getresgid():
        raise SystemExit("carrel-launcher: sandboxes are never started by uid 0 or gid 0.")
    with socket.socket(fileno=os.dup(FIRST_SOCKET)) as connection:
        refuse_others(connection)
    try:
        group = delegation.take().path
    except delegation.NotDelegated as error:
        group = ""
        sys.stderr.write(f"carrel-launcher: sandboxes are held by no cgroup: {error}\n")
        sys.stderr.flush()
    code = memory("launcher", archive())
    for fd in (FIRST_SOCKET, code):
        os.set_inheritable(fd, True)
    os.chdir("/")
    words = command(code, FIRST_SOCKET, uid=None, groups=group)
    os.execve(words[0], words, {})  # noqa: S606 - a fixed list of words


def refuse_others(connection: socket.socket) -> None:
    """Raise SystemExit where the peer is another user: whoever gives orders here runs commands as this one."""
    size = struct.calcsize("iII")
    _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid != os.getuid():
        raise SystemExit(f"carrel-launcher: uid {uid} gives no orders here.")
