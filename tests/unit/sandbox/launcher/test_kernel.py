"""What is asked of the kernel, each asked in a child of the test's own."""

import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from carrel.sandbox.launcher import GATE_PORT, kernel
from tests.fakes.sandboxed import LAUNCH_UID

_RETURN_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000


def in_a_child(work: Callable[[], str]) -> str:
    """What ``work`` says in a child that is not root."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if LAUNCH_UID is not None:
                os.setgroups([])
                os.setresgid(LAUNCH_UID, LAUNCH_UID, LAUNCH_UID)
                os.setresuid(LAUNCH_UID, LAUNCH_UID, LAUNCH_UID)
                kernel.readable_by_others(yes=True)
            os.write(write, work().encode())
        except BaseException as error:  # noqa: BLE001 - a child of the test
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    told = os.read(read, 10_000).decode()
    os.close(read)
    return told


def status(field: str) -> str:
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(field + ":"))


def test_a_network_of_its_own_has_only_loopback_and_what_listens_there() -> None:
    def work() -> str:
        kernel.leave_network()
        listener = kernel.listening(GATE_PORT)
        client = socket.socket()
        client.connect(("127.0.0.1", GATE_PORT))
        served, _ = listener.accept()
        served.send(b"hello")
        names = [name for _, name in socket.if_nameindex()]
        return f"{client.recv(10).decode()} {names} {os.getuid() != 0}"

    assert in_a_child(work) == "hello ['lo'] True"


def test_privileges_once_given_up_are_gone_also_in_a_namespace_where_they_were_all_there() -> None:
    def work() -> str:
        kernel.leave_network()
        before = status("CapEff")
        kernel.give_up_privileges()
        return " ".join([before, *(status(name) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs"))])

    before, *after, no_new = in_a_child(work).split()
    assert int(before, 16) != 0
    assert {int(held, 16) for held in after} == {0}
    assert no_new == "1"


def test_a_filter_judges_from_then_on() -> None:
    # All is allowed but getppid, which is answered EPERM.
    getppid = 110 if os.uname().machine == "x86_64" else 173
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),
            (0x15, 0, 1, getppid),
            (0x06, 0, 0, _RETURN_ERRNO | errno.EPERM),
            (0x06, 0, 0, _ALLOW),
        )
    )

    def work() -> str:
        kernel.leave_network()
        kernel.give_up_privileges()
        before = os.getppid()
        kernel.filter_calls(program)
        return f"{before > 0} {os.getppid() > 0} {os.getpid() > 0}"

    assert in_a_child(work) == "True False True"


def test_what_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(OSError, match="setns"):
        kernel.enter(0)

    def work() -> str:
        kernel.filter_calls(b"x" * 8)
        return "taken"

    assert "seccomp" in in_a_child(work)


def test_a_process_can_hide_itself_from_others_of_its_uid() -> None:
    def work() -> str:
        kernel.readable_by_others(yes=False)
        hidden = Path("/proc/self/mem").stat().st_uid
        kernel.readable_by_others(yes=True)
        return f"{hidden} {Path('/proc/self/mem').stat().st_uid == os.getuid()}"

    assert in_a_child(work) == "0 True"
