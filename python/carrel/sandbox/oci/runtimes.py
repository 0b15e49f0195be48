"""OCI runtimes by their class: the program, how it is called, and who one is inside."""

import shutil
from dataclasses import dataclass
from typing import Final

from carrel.errors import SandboxUnavailable
from carrel.sandbox.bwrap import UID

WELL_KNOWN: Final = ("crun", "runc", "runsc")
"""Classes that `carrel doctor` tries whether they are declared or not."""

_PLACES: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"
_PROGRAMS: Final = {"kata": "kata-runtime", "gvisor": "runsc"}
_OWN_KERNELS: Final = frozenset({"runsc", "kata-runtime"})
"""Rootless they make no container that is started later, and hold no limit but a cgroup's."""
_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    # Limits are the kernel's own; a runtime makes no cgroup, for which it would need rights that it has not.
    "crun": ("--cgroup-manager", "disabled"),
    "runc": ("--rootless", "true"),
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime of this machine. ``uid`` is who one is inside."""

    name: str
    program: str
    options: tuple[str, ...]
    uid: int
    hides_cgroups: bool


def find(name: str) -> Runtime:
    """The runtime of a class; raises SandboxUnavailable where it is not installed."""
    called = _PROGRAMS.get(name, name)
    if called in _OWN_KERNELS:
        raise SandboxUnavailable(
            f"The runtime {called!r} has a kernel of its own, whose memory and /tmp no limit of ours would hold: it is "
            "not used, and nothing is run by another. Name `crun` or `runc` in the mode's `runtime_class`."
        )
    program = shutil.which(called) or shutil.which(called, path=_PLACES)
    if program is None:
        raise SandboxUnavailable(
            f"The OCI runtime {called!r} is not installed, and nothing is run by another: install it, or name in the "
            "mode's `runtime_class` one that is."
        )
    options = _OPTIONS.get(called, ())
    # With one id to give, all but crun want it to be 0: root over nothing, without a capability.
    uid = UID if called == "crun" else 0
    return Runtime(name, program, options, uid, called == "crun")
