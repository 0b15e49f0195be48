"""A container by podman, in the cradle: no image, no network of its own, no state that outlives the cradle.

podman is run as the cradle's child, in a further user namespace in which it is uid 0 as it wants to be, over the same
root file system that a runtime would have. Its settings and its state lie beside it in memory, and those of the machine
are hidden from it: they can name mounts and hooks that would be in every container.

The first process of the container holds the three streams, and a socket through which it is known, is given its limits
and its environment, and is let go.
"""

import contextlib
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, Final, NoReturn

from carrel.sandbox.launcher import kernel, packets

MACHINES_OWN: Final = ("/etc/containers", "/usr/share/containers", "/run/containers")
_SETTINGS: Final = """
[containers]
default_ulimits = []
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime_supports_nocgroup = ["{runtime}", "crun"]
runtime_supports_nocgroups = ["{runtime}", "crun"]
"""
_STORAGE: Final = '[storage]\ndriver = "vfs"\nrunroot = "{place}/run"\ngraphroot = "{place}/graph"\n'
_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"
_CREDENTIALS: Final = struct.Struct("3i")


class Podman:
    """podman in the cradle's bundle at ``place``, for one container over ``root``."""

    def __init__(self, order: dict[str, Any], way: dict[str, Any], *, place: str, root: str) -> None:
        self._order = order
        self._told: dict[str, Any] = order["podman"]
        self._way = way
        self._place = f"{place}/podman"
        self._root = root
        self.log = f"{place}/log"

    def lay_out(self) -> None:
        """Write its settings, and hide those of the machine; called where all that is mounted has been opened."""
        for name in ("run", "graph", "home", "pts"):
            Path(self._place, name).mkdir(0o700, parents=True)
        runtime = Path(self._order["runtime"]).name
        Path(self._place, "containers.conf").write_text(_SETTINGS.format(runtime=runtime))
        Path(self._place, "storage.conf").write_text(_STORAGE.format(place=self._place))
        seccomp = self._order["config"]["linux"]["seccomp"]
        Path(self._place, "seccomp.json").write_text(json.dumps(seccomp))
        # podman's own cannot be had with a /dev that is read-only.
        kernel.mount_new("devpts", f"{self._place}/pts", "newinstance,ptmxmode=0666,mode=0620", devices=True)
        for folder in MACHINES_OWN:
            if Path(folder).is_dir():
                kernel.mount_new("tmpfs", folder, "mode=0555,size=4096")

    def begin(self) -> tuple[int, socket.socket]:
        """Start it with the streams 0, 1 and 2: its pid, and this side of the socket to the first process."""
        ours, theirs = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        child = os.fork()
        if child == 0:
            ours.close()
            self._become(theirs.detach())
        theirs.close()
        return child, ours

    def first(self, ours: socket.socket) -> int | None:
        """The pid of the container's first process, once it is there; None where it never will be."""
        data, more, _, _ = ours.recvmsg(16, socket.CMSG_SPACE(_CREDENTIALS.size))
        for level, kind, content in more:
            if data and (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                return int(_CREDENTIALS.unpack(content)[0])
        return None

    def let_go(self, ours: socket.socket) -> None:
        """Hand the first process its environment, and let it go on."""
        text = self._told["environment"]
        ours.sendall(f"{text.count(chr(10))}\n{text}".encode("utf-8", "surrogateescape"))

    def _become(self, theirs: int) -> NoReturn:
        try:
            kernel.become_root_of_nothing()
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            nothing = os.open("/dev/null", os.O_RDWR)
            packets.placed([nothing, nothing, log, 0, 1, 2, theirs])
            os.execve(self._told["program"], self._arguments(), self._environment())  # noqa: S606 - what it is for
        except BaseException as error:  # noqa: BLE001 - nothing may go on as a second supervisor
            with contextlib.suppress(OSError):
                os.write(2, f"podman could not be started: {error}\n".encode())
        os._exit(127)

    def _arguments(self) -> list[str]:
        place = self._place
        return [
            "podman", "--log-level=error", f"--root={place}/graph", f"--runroot={place}/run",
            f"--tmpdir={place}/run/libpod", "run", *self._told["options"], *self._way["podman"],
            f"--security-opt=seccomp={place}/seccomp.json", f"--volume={place}/pts:/dev/pts:rw,nosuid,noexec,dev",
            "--rootfs", self._root, *self._told["argv"],
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        place, uid = self._place, str(self._order["uid"])
        return {
            "HOME": f"{place}/home", "PATH": _PATH, "TMPDIR": place, "XDG_RUNTIME_DIR": f"{place}/run",
            "CONTAINERS_CONF": f"{place}/containers.conf", "CONTAINERS_STORAGE_CONF": f"{place}/storage.conf",
            # It is in its user namespace already, and is to make none by programs that are set-uid.
            "_CONTAINERS_USERNS_CONFIGURED": "done", "_CONTAINERS_ROOTLESS_UID": uid, "_CONTAINERS_ROOTLESS_GID": uid,
        }  # fmt: skip
