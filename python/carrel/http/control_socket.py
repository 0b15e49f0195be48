"""The control socket: where it is, and whose processes it admits."""

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from aiohttp import web

_UCRED: Final = struct.Struct("iII")


class ControlSocket:
    """A unix socket whose peers are judged by the uid that the kernel names.

    Root, the gateway's own uid and ``starter_uid`` are admitted: who started the gateway, where it gave that uid up.
    """

    def __init__(self, path: Path, *, starter_uid: int | None = None) -> None:
        self._path = path
        self._admitted = frozenset({0, os.getuid(), *([] if starter_uid is None else [starter_uid])})
        self._starter = starter_uid

    def bind(self) -> socket.socket:
        """The bound socket; what an earlier gateway left at its place is removed."""
        try:
            if stat.S_ISSOCK(self._path.lstat().st_mode):
                self._path.unlink()
        except FileNotFoundError:
            pass
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            bound.bind(str(self._path))
        except BaseException:
            bound.close()
            raise
        finally:
            os.umask(before)
        if self._starter not in (None, 0, os.getuid()):
            # The kernel's word on the peer's uid is what admits; the mode only has to let the starter knock.
            self._path.chmod(0o666)
        return bound

    def admits(self, uid: int | None) -> bool:
        """Whether a peer of that uid may come in."""
        return uid in self._admitted

    def remove(self) -> None:
        """Take the socket's file away; where the disk does not let go of it, the next start does."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def peer_uid(request: web.BaseRequest) -> int | None:
    """The uid at the other end of a unix socket, by the kernel's word; None where there is none to ask."""
    peer: socket.socket | None = request.get_extra_info("socket")
    if peer is None:
        return None
    try:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return None
    return int(_UCRED.unpack(credentials)[1])
