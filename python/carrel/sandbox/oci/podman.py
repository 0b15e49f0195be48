"""What podman is told of one job, where a mode has it as its engine: pure.

It is told the same as a runtime that is run directly: its own defaults that are more than that (a network, /sys, a
writable /dev, variables, names in /etc) are each replaced. Its files lie in the launcher's cradle and end with it.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from carrel.sandbox import bwrap
from carrel.sandbox.oci.runtimes import Runtime
from carrel.sandbox.protocol import Job

DESCRIPTORS: Final = 4
"""What the first process is handed besides: the three streams, and a socket."""

# podman has streams of its own; the command has the launcher's. The first process says that it is there, waits for its
# limits, takes the environment (an argument of podman's could be read by everybody on the host), and gives up what the
# command is not to have.
_FIRST: Final = (
    "echo >&6; read -r n <&6 || exit 1; unset HOSTNAME HOME PATH TERM container; s=; "
    'while [ "$n" -gt 0 ]; do IFS= read -r l <&6 || exit 1; s="$s$l\n"; n=$((n-1)); done; eval "$s"; unset s l n; '
    'exec 6>&- <&3 >&4 3>&5 4>&- 5>&- 2>/dev/null; "$@" 2>&3 3>&-; exit $?'
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FOLDERS: Final = {"/sys": 4096, "/dev": 65536, "/run": 4096}
"""What podman would give of its own: replaced by memory that is read-only, and as small as it may be.

In one that everybody may write to the kernel lets nobody open devices of another by `>`."""


def told(job: Job, runtime: Runtime) -> dict[str, Any]:
    """The order's ``podman``: its program, and the arguments of `podman run` but for what the cradle knows."""
    options = [
        f"--runtime={runtime.program}",
        f"--uidmap={runtime.uid}:0:1", f"--gidmap={runtime.uid}:0:1", f"--user={runtime.uid}:{runtime.uid}",
        # The network, which has nothing but the gate, is the cradle's own.
        "--network=host", "--no-hosts", "--dns=none", "--hostname=sandbox", "--pid=private", "--ipc=private",
        "--uts=private", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=label=disable",
        "--security-opt=proc-opts=ro,nosuid,nodev,noexec", "--read-only", "--read-only-tmpfs=false",
        "--pull=never", "--log-driver=none", "--passwd=false", "--http-proxy=false", "--systemd=false",
        "--umask=0022", "--unsetenv-all", f"--preserve-fds={DESCRIPTORS}", f"--workdir={job.cwd}",
        f"--shm-size={bwrap.SHM_BYTES}b",
        f"--tmpfs={bwrap.TMP}:rw,nosuid,nodev,exec,mode=1777,size={job.limits.tmp_bytes}",
    ]  # fmt: skip
    options += [
        f"--mount=type=tmpfs,destination={path},ro,tmpfs-mode=755,tmpfs-size={size}" for path, size in _FOLDERS.items()
    ]
    return {
        "program": runtime.engine,
        "options": options,
        "environment": exports(bwrap.environment(job)),
        "argv": [job.userland.shell, "-c", _FIRST, "sandbox", *job.argv],
    }


def exports(environment: Mapping[str, str]) -> str:
    """The environment as a shell reads it; a name that no shell has a variable for is left out."""
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in environment.items() if _NAME.fullmatch(name)
    )
