"""Packets with descriptors beside them, and the memory that carries what is too long for one."""

import array
import fcntl
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from carrel.sandbox.launcher import MAX_FILES, MAX_PACKET

_ABOVE: Final = 100


def send(end: socket.socket, packet: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one packet; raises OSError where nobody is there, or nobody reads."""
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    end.sendmsg([json.dumps(packet).encode()], beside)


def receive(end: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptors, which are the caller's to close; empty where the other end is gone."""
    room = array.array("i", [0] * (MAX_FILES + 5))
    data, ancillary, _, _ = end.recvmsg(
        MAX_PACKET, socket.CMSG_SPACE(len(room) * room.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            got = array.array("i")
            got.frombytes(payload[: len(payload) - len(payload) % got.itemsize])
            descriptors += got
    return data, descriptors


def content(fd: int) -> bytes:
    """All that is in the file behind ``fd``, wherever its offset is."""
    parts = []
    at = 0
    while piece := os.pread(fd, 1 << 20, at):
        parts.append(piece)
        at += len(piece)
    return b"".join(parts)


def memory(name: str, data: bytes) -> int:
    """A descriptor of anonymous memory with ``data``, read from its start; the caller closes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        at = 0
        while at < len(data):
            at += os.write(fd, data[at:])
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def nul_ended(arguments: Sequence[str]) -> bytes:
    """The arguments as bwrap's ``--args`` reads them: each ended by a NUL."""
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def moved(fd: int) -> int:
    """A copy of ``fd`` out of the way of the numbers that a sandbox's descriptors take."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)


def placed(descriptors: Sequence[int]) -> None:
    """Make ``descriptors`` this process's 0, 1, 2 and so on, and close every other one."""
    above = [moved(fd) for fd in descriptors]
    for place, fd in enumerate(above):
        os.dup2(fd, place, inheritable=True)
    os.closerange(len(above), 1 << 20)
