"""What the launcher is ordered to hand an OCI runtime for one job: the bundle's configuration and what to mount. Pure.

As with bubblewrap, everything comes from what is declared and from constants; the command alone is the job's.
"""

from typing import Any, Final

from carrel.sandbox import bwrap
from carrel.sandbox.bwrap import Files
from carrel.sandbox.oci import own_kernel, podman
from carrel.sandbox.oci.profile import profile
from carrel.sandbox.oci.runtimes import FAMILIES, Runtime
from carrel.sandbox.protocol import Job

_CAPABILITY_SETS: Final = ("bounding", "effective", "inheritable", "permitted", "ambient")
# The first process of a container ignores signals that it does not handle, and has to wait for what others leave: so it
# is a shell that does nothing else, and says nothing. It gives the command's end as its own.
_FIRST: Final = 'exec 3>&2 2>/dev/null; "$@" 2>&3 3>&-; exit $?'


def order(job: Job, files: Files, runtime: Runtime, *, uid: int, grouped: bool = False) -> dict[str, Any]:
    """The order's ``oci``: see the launcher's ``cradle``. ``uid`` is the launcher's own.

    ``grouped``: the sandbox will be in a cgroup that bounds its memory as a whole.
    """
    gate = job.gate.files if job.gate is not None else {}
    return {
        "runtime": runtime.program,
        "uid": uid,
        "family": runtime.family,
        "families": FAMILIES,
        "config": config(job, runtime, uid=uid),
        "podman": podman.told(job, runtime) if runtime.engine else None,
        "kernel": own_kernel.told(job, grouped=grouped),
        "mounts": [[mount.source, mount.target] for mount in job.userland.mounts],
        "links": [[target, link] for target, link in job.userland.links],
        "etc": etc(runtime),
        "files": list(gate),
        "skip": files.job_fd(0),
        # Set when the runtime has done its work, which may need more than the command is given.
        "rlimits": bwrap.rlimits(job),
    }


def config(job: Job, runtime: Runtime, *, uid: int) -> dict[str, Any]:
    """``config.json`` but for its root: https://github.com/opencontainers/runtime-spec/blob/main/config.md."""
    inside = runtime.uid
    mapping = [{"containerID": inside, "hostID": uid, "size": 1}]
    return {
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "process": {
            "terminal": False,
            "user": {"uid": inside, "gid": inside, "umask": 0o022},
            "args": [job.userland.shell, "-c", _FIRST, "sandbox", *job.argv],
            "env": [f"{name}={value}" for name, value in bwrap.environment(job).items()],
            "cwd": job.cwd,
            "noNewPrivileges": True,
            "capabilities": {name: [] for name in _CAPABILITY_SETS},
        },
        "mounts": _mounts(job),
        "linux": {
            "uidMappings": mapping,
            "gidMappings": mapping,
            # The network is new already, and is the launcher's: the gate listens in it.
            "namespaces": [{"type": kind} for kind in ("user", "pid", "ipc", "uts", "mount")],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/proc/scsi"],
            "seccomp": profile(job.confinement.refusals),
        },
    }


def etc(runtime: Runtime) -> dict[str, str]:
    """The files of /etc, in which whoever the runtime makes of the agent has its name."""
    files = {name: content.decode() for name, content in bwrap.ETC}
    for name in ("passwd", "group"):
        files[name] = files[name].replace(str(bwrap.UID), str(runtime.uid))
    return files


def _mounts(job: Job) -> list[dict[str, Any]]:
    def mount(kind: str, target: str, *options: str) -> dict[str, Any]:
        return {"destination": target, "type": kind, "source": kind, "options": ["nosuid", *options]}

    return [
        mount("proc", "/proc", "nodev", "noexec", "ro"),
        mount("tmpfs", "/dev", "strictatime", "mode=755", "size=65536", "ro"),
        mount("devpts", "/dev/pts", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        mount("tmpfs", bwrap.SHM, "nodev", "mode=1777", f"size={bwrap.SHM_BYTES}"),
        mount("tmpfs", bwrap.TMP, "nodev", "mode=1777", f"size={job.limits.tmp_bytes}"),
    ]
