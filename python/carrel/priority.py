"""Who waits for whom: what may take its time leaves the processors to whoever has streams to serve."""

import contextlib
import os
from pathlib import Path
from typing import Final

_BEHIND: Final = 10
"""A tenth of the time that an equal would get of a busy processor, and all of one that is idle."""


def step_back(pid: int = 0) -> None:
    """Let a process, by default this one, and all that it starts from now on, wait for whoever has streams to serve.

    Niceness alone is not enough: where the kernel groups processes by their session (sched_autogroup_enabled, which
    is on almost everywhere), it counts only within that group, and the groups share a processor as equals. So the group
    steps back too, where the process leads its session and it is nobody else's. As a batch it never cuts in. What is
    not permitted is left as it is.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, _BEHIND)
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
        if os.getsid(pid) == (pid or os.getpid()):
            Path("/proc", str(pid or "self"), "autogroup").write_text(str(_BEHIND))
