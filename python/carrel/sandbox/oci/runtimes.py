"""OCI runtimes by their class: the program, how it is called, and who one is inside."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.errors import SandboxUnavailable
from carrel.sandbox.bwrap import UID

WELL_KNOWN: Final = ("crun", "runc", "runsc")
"""Classes that `carrel doctor` tries whether they are declared or not."""

_PLACES: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"
_PROGRAMS: Final = {"gvisor": "runsc"}
_ANYBODYS: Final = ("/tmp/", "/var/tmp/", "/dev/shm/")  # noqa: S108 - to be refused
_KNOWN: Final = frozenset({"crun", "runc"})

FAMILIES: Final[dict[str, dict[str, object]]] = {
    # Limits are the kernel's own; a runtime makes no cgroup, for which it would need rights that it has not.
    "crun": {
        "options": ["--cgroup-manager", "disabled"], "hide_cgroups": True, "podman": ["--cgroups=disabled"],
    },
    # Told that it is rootless it goes on where it may make none. podman has a word for "none" that crun alone knows.
    "runc": {
        "options": ["--rootless", "true"], "hide_cgroups": False,
        "podman": ["--runtime-flag=rootless=true", "--cgroups=enabled"],
    },
    # It has a kernel of its own, which takes the loopback that the gate listens on from the host's, and makes the file
    # that is its memory without a cgroup's leave.
    "runsc": {
        "options": ["--network=host", "--ignore-cgroups", "--oci-seccomp", "--overlay2=none"],
        "hide_cgroups": False, "podman": [], "kernel": True,
    },
    "": {"options": [], "hide_cgroups": False, "podman": ["--cgroups=enabled"]},
}  # fmt: skip
"""How runtimes are called, by the first word that each says of its version; the nameless one is for all others."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime of this machine. ``uid`` is who one is inside; ``family`` is None where it is to be asked.

    ``engine`` is the program that is to call it; where it is empty, it is called directly.
    """

    name: str
    program: str
    uid: int
    family: str | None = None
    engine: str = ""


def find(name: str, engine: str | None = None) -> Runtime:
    """The runtime of a class, or at a path; raises SandboxUnavailable where it or the engine is not installed."""
    called = _PROGRAMS.get(name, name)
    base = Path(called).name
    if called.startswith(_ANYBODYS):
        raise SandboxUnavailable(
            f"{called!r} is where everybody may write, and is not seen by what runs containers: nothing is run by it. "
            "Put the runtime elsewhere, as in /usr/local/bin."
        )
    program = _found(called)
    if program is None:
        raise SandboxUnavailable(
            f"The OCI runtime {called!r} is not installed, and nothing is run by another: install it, or name in the "
            "mode's `runtime_class` one that is."
        )
    by = _found(engine) if engine is not None else ""
    if by is None:
        raise SandboxUnavailable(
            f"The engine {engine!r} is not installed, and nothing is run by another: install it, or leave out the "
            "mode's `engine`, for the runtime needs none."
        )
    # With one id to give, all but crun want it to be 0: root over nothing, without a capability.
    return Runtime(name, program, UID if base == "crun" else 0, base if base in _KNOWN else None, by)


def _found(name: str) -> str | None:
    return shutil.which(name) or (None if "/" in name else shutil.which(name, path=_PLACES))
