"""The kernel's limits, set on a process from outside before it goes on."""

import contextlib
import os
import resource
from typing import Final

_NICER: Final = 5


def set_on(pid: int, rlimits: dict[str, list[int]]) -> None:
    """Set the limits of a process, which all that it starts inherit; none of them can raise them."""
    for name, wanted in rlimits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        most = resource.prlimit(pid, number)[1]
        soft, hard = (value if most == resource.RLIM_INFINITY else min(value, most) for value in wanted)
        resource.prlimit(pid, number, (soft, hard))
    # A gateway that is started nicer than that is no reason: to be less nice takes a right.
    os.setpriority(os.PRIO_PROCESS, pid, max(_NICER, os.getpriority(os.PRIO_PROCESS, pid)))
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"1000")
