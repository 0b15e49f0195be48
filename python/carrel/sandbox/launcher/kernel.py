"""What the launcher asks of the kernel that the standard library has no call for. Each raises OSError."""

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

_CLONE_PARENT: Final = 0x8000
_CLONE_INTO_CGROUP: Final = 0x200000000
_SYS_CLONE3: Final = 435
_CLONE_ARGS: Final = struct.Struct("11Q")

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_MODE_FILTER: Final = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAPABILITIES: Final = 64
_INSTRUCTION: Final = 8
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP_AND_RUNNING: Final = 0x41

_MS_PRIVATE_AND_BELOW: Final = 0x44000
_MS_BIND_AND_BELOW: Final = 0x5000
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_SYS_MOUNT_SETATTR: Final = 442
_ATTR_RDONLY: Final = 1
_ATTR_NOSUID_NODEV: Final = 6
_MS_NOSUID: Final = 2
_MS_NOSUID_NODEV: Final = 6

_libc = ctypes.CDLL(None, use_errno=True)
_locked = ctypes.PyDLL(None, use_errno=True)
"""The same, without giving up the interpreter's lock: it has to be held on both sides of a fork."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _asked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, *arguments: object) -> int:
    padded = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (*arguments, 0, 0, 0, 0)][:4]
    return int(_libc.prctl(option, *padded))


def leave_network() -> None:
    """Leave the parent's network for an empty one, in a user namespace that knows this process by its own ids."""
    _leave(CLONE_NEWNET, os.geteuid(), os.getegid())


def become_root_of_nothing() -> None:
    """Be uid 0 of a further user namespace that knows this process alone, with mounts of its own."""
    _leave(CLONE_NEWNS, 0, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _leave(namespace: int, uid: int, gid: int) -> None:
    """Have a new user namespace, in which one is ``uid`` and ``gid`` and nobody else is known, and another beside."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _asked(_libc.unshare(CLONE_NEWUSER | namespace), "unshare")
    maps = (("setgroups", "deny"), ("uid_map", f"{uid} {outer_uid} 1"), ("gid_map", f"{gid} {outer_gid} 1"))
    for name, text in maps:
        with open(f"/proc/self/{name}", "wb", buffering=0) as file:
            file.write(text.encode())


def listening(port: int) -> socket.socket:
    """A socket that listens on this network's loopback, which is brought up."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        fcntl.ioctl(listener, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP_AND_RUNNING))
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def enter(process: int) -> None:
    """Join all namespaces of the process behind the pidfd ``process``; its PID namespace is the next child's."""
    namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if _libc.setns(process, namespaces | CLONE_NEWCGROUP) != 0:
        # A kernel without cgroup namespaces has not made one for it either.
        _asked(_libc.setns(process, namespaces), "setns")


def fork_into(group: int, *, sibling: bool = False) -> int:
    """As ``os.fork``, with the child in the cgroup behind the descriptor ``group`` from its first instruction.

    Moving a process that runs takes the kernel 10 ms and more. ``sibling``: the child is the parent's parent's. The
    interpreter is told nothing of the fork: the child may execute a program, or fork once more.
    """
    flags = _CLONE_INTO_CGROUP | (_CLONE_PARENT if sibling else 0)
    signal_at_end = 0 if sibling else signal.SIGCHLD
    arguments = _CLONE_ARGS.pack(flags, 0, 0, 0, signal_at_end, 0, 0, 0, 0, 0, group)
    child = int(_locked.syscall(ctypes.c_long(_SYS_CLONE3), ctypes.c_char_p(arguments), ctypes.c_size_t(88)))
    if child < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return child


def leave_mounts_and_processes() -> None:
    """Mount from now on for oneself alone; the next child is the first process of a PID namespace."""
    _asked(_libc.unshare(CLONE_NEWNS | CLONE_NEWPID), "unshare")
    _mount(None, "/", None, _MS_PRIVATE_AND_BELOW, None)


def mount_new(
    kind: str, target: str, options: str | None = None, *, devices: bool = False, plain: bool = False
) -> None:
    """Mount a new file system of a kind that is on no device, without set-uid programs, and mostly without devices.

    ``plain``: without either, for whoever mounts it again in a user namespace beneath, where neither may be left out.
    """
    _mount(kind, target, kind, 0 if plain else _MS_NOSUID if devices else _MS_NOSUID_NODEV, options)


def mount_held(fd: int, target: str, *, writable: bool = False) -> None:
    """Mount what the descriptor ``fd`` is of, with all mounts beneath; no link can come between.

    It was opened in this mount namespace. Needs Linux 5.12 for flags that reach the mounts beneath too.
    """
    _mount(f"/proc/self/fd/{fd}", target, None, _MS_BIND_AND_BELOW, None)
    attributes = struct.pack("QQQQ", _ATTR_NOSUID_NODEV | (0 if writable else _ATTR_RDONLY), 0, 0, 0)
    made = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        flags = ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE)
        done = _libc.syscall(ctypes.c_long(_SYS_MOUNT_SETATTR), made, b"", flags, attributes, ctypes.c_size_t(32))
        _asked(done, "mount_setattr")
    finally:
        os.close(made)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _asked(_libc.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]), f"mount on {target}")


def die_with_parent() -> None:
    """Be killed when the thread that forked this process ends."""
    _asked(_prctl(_PR_SET_PDEATHSIG, 9), "prctl")


def readable_by_others(*, yes: bool) -> None:
    """Whether processes of the same uid may look into this one. A change of uid and of namespaces says no as well."""
    _asked(_prctl(_PR_SET_DUMPABLE, int(yes)), "prctl")


def adopt_orphans() -> None:
    """Take the place of init for the children of children that lose their parents."""
    _asked(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl")


def give_up_privileges() -> None:
    """Keep no capability and gain none by executing anything."""
    _asked(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "prctl")
    for number in range(_CAPABILITIES):
        if _prctl(_PR_CAPBSET_DROP, number) != 0:
            if ctypes.get_errno() != errno.EINVAL:
                _asked(-1, "prctl")
            break
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _asked(_libc.capset(header, bytes(24)), "capset")


def filter_calls(program: bytes) -> None:
    """Judge every later system call by ``program`` too."""
    packed = _Program(len(program) // _INSTRUCTION, program)
    _asked(_prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(packed)), "seccomp")
