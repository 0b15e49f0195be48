"""Run inside a sandbox to see whether it holds: prints a JSON list of sentences on what does not, empty where all does.

Standard library only: it is fed to a bare interpreter through standard input. ``[UID FILTERS]``: who it should be, and
how many filters there must be at least. ``memory BYTES``: take more memory than that, which ends it where the limit
holds.
"""

import ctypes
import json
import os
import resource
import socket
import sys
from pathlib import Path

_PR_GET_NO_NEW_PRIVS = 39
_PIECE = 32 << 20


def findings(uid: int = 1000, filters: int = 2) -> list[str]:
    """What is not as it must be."""
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    wrong = []
    if status.get("NoNewPrivs", str(ctypes.CDLL(None).prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0))) != "1":
        wrong.append("The sandbox can gain privileges.")
    # Ambient ones are of those that are permitted: where there are none of those, who does not tell has none.
    status.setdefault("CapAmb", "0")
    if any(int(status.get(name, "1"), 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")):
        wrong.append("The sandbox holds capabilities.")
    if status.get("Seccomp") != "2" or int(status.get("Seccomp_filters", filters)) < filters:
        wrong.append("The sandbox's seccomp filters are not in force.")
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        wrong.append("The sandbox sees the network.")
    if os.getuid() != uid:
        wrong.append(f"The sandbox runs as uid {os.getuid()}.")
    wrong += [
        f"The sandbox can write {path}." for path in ("/", "/proc/sys/kernel/core_pattern", "/usr") if writable(path)
    ]
    endless = [
        name for name in ("CPU", "DATA", "NPROC", "FSIZE", "CORE")
        if resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1] == resource.RLIM_INFINITY
    ]  # fmt: skip
    if endless:
        wrong.append(f"The sandbox has no limit of {', '.join(endless)}.")
    if sum(name.isdigit() for name in os.listdir("/proc")) > 3:
        wrong.append("The sandbox sees processes of the host.")
    return wrong


def writable(path: str) -> bool:
    """Whether the file, or a new one in the directory, can be opened for writing."""
    try:
        if Path(path).is_dir():
            os.close(os.open(f"{path}/.carrel-probe", os.O_WRONLY | os.O_CREAT, 0o600))
        else:
            os.close(os.open(path, os.O_WRONLY))
    except OSError:
        return False
    return True


def took(size: int) -> list[str]:
    """Take ``size`` bytes and a quarter more, and touch them all."""
    taken = []
    for _ in range(0, size + (size >> 2), _PIECE):
        piece = bytearray(_PIECE)
        piece[::4096] = bytes(len(piece[::4096]))
        taken.append(piece)
    return ["The sandbox has more memory than its limit."]


if __name__ == "__main__":
    said = took(int(sys.argv[2])) if sys.argv[1:2] == ["memory"] else findings(*map(int, sys.argv[1:]))
    sys.stdout.write(json.dumps(said))
