"""Packets, memory, and descriptors at their places."""

import os
import socket

from carrel.sandbox.launcher import packets


def test_a_packet_carries_descriptors_beside_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd = packets.memory("m", b"within")
    with ours, theirs:
        packets.send(ours, {"do": "it"}, [fd])
        data, got = packets.receive(theirs)
        assert data == b'{"do": "it"}'
        assert packets.content(got[0]) == b"within"
        ours.close()
        assert packets.receive(theirs) == (b"", [])
    os.close(fd)
    os.close(got[0])


def test_content_does_not_care_where_the_offset_is() -> None:
    fd = packets.memory("m", b"abc" * 1_000_000)
    os.lseek(fd, 5, os.SEEK_SET)
    assert packets.content(fd) == b"abc" * 1_000_000
    os.close(fd)


def test_arguments_are_ended_by_nul() -> None:
    assert packets.nul_ended(["--a", "b c", ""]) == b"--a\0b c\0\0"


def test_descriptors_are_placed_from_zero_and_all_others_are_closed() -> None:
    read, write = os.pipe()
    one, two = packets.memory("1", b"one"), packets.memory("2", b"two")
    pid = os.fork()
    if pid == 0:
        try:
            # Each is where another has to go.
            packets.placed([two, write, one])
            told = packets.content(0) + packets.content(2)
            open_ones = [fd for fd in range(64) if _is_open(fd)]
            os.write(1, told + str(open_ones).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert os.read(read, 100) == b"twoone[0, 1, 2]"
    for fd in (read, one, two):
        os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
