"""What a runtime with a kernel of its own (gVisor) is told besides, whose limits are held in two places: pure.

Within, its kernel counts for each process what it is told to. Around it, the host's kernel bounds the process that it
is.
"""

from typing import Any, Final

from carrel.sandbox import bwrap
from carrel.sandbox.oci.profile import denials
from carrel.sandbox.protocol import Job

GRAIN: Final = 1 << 30
"""Its memory grows by so many bytes at a time, and what bounds the file that it is in bounds it to a multiple."""

# A signal that the host's kernel sends to the one inside, for the file that is its memory, is handed on to the first
# process: who asks for more than there is gets an error, and the others live.
_FIRST: Final = "trap '' XFSZ; exec 3>&2 2>/dev/null; (trap - XFSZ; exec \"$@\" 2>&3 3>&-); exit $?"
_ITSELF_BYTES: Final = 512 << 20
_ITSELF_THREADS: Final = 64
_EACH: Final = 3
"""A process within is up to so many without: what it is, what traces it, and what waits for the host."""


def told(job: Job, *, grouped: bool) -> dict[str, Any]:
    """The order's ``kernel``. ``grouped``: a cgroup holds the memory of the sandbox as a whole."""
    limits = job.limits
    whole = -(-limits.memory_bytes // GRAIN) if grouped else limits.memory_bytes // GRAIN
    most = max(1, whole) * GRAIN
    inside = bwrap.rlimits(job)
    size = min(inside["FSIZE"][0], most)
    around = {
        "FSIZE": most,
        "DATA": limits.memory_bytes + _ITSELF_BYTES,
        "NPROC": limits.pids * _EACH + _ITSELF_THREADS,
        "CORE": 0,
    }
    return {
        "inside": {**inside, "FSIZE": (size, size)},
        "around": {name: (value, value) for name, value in around.items()},
        "args": [job.userland.shell, "-c", _FIRST, "sandbox", *job.argv],
        "seccomp": denials(job.confinement.refusals),
        "kept": job.keep is not None,
        "problem": "" if whole else _TOO_FINE.format(limits.memory_bytes >> 20),
    }


_TOO_FINE: Final = (
    "a runtime with a kernel of its own can be held to whole GiB of memory where the gateway's cgroup is not delegated "
    "with the memory controller, and this mode has {} MiB: say `memory_bytes: 1073741824` or more in the mode, or "
    "delegate it"
)
