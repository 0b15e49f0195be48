"""What stands between the launcher and an OCI runtime: namespaces in which nothing of a container can be left behind.

A berth that is to hold a container makes a mount and a PID namespace beside its network and forks a supervisor, which
is the first process in there. Container, runtime and whatever else the runtime starts are the
supervisor's, so that killing it ends them all, by the kernel. The bundle, the runtime's own state and the root file
system are in memory that only this mount namespace knows: there is nothing to sweep afterwards.

To the launcher it behaves as bubblewrap does: it says who the first process is, waits to be let go, and says the exit
code. The order, JSON at ``ARGUMENTS_FD``, is ``{"runtime": PATH, "uid": UID, "family": NAME or null, "families": {NAME:
{"options": [...], "hide_cgroups": BOOL, "podman": [...]}}, "config": {...}, "podman": {...} or null, "mounts":
[[SOURCE, TARGET], ...], "links": [[TARGET, LINK], ...], "etc": {NAME: TEXT}, "files": [NAME, ...], "skip": N,
"rlimits": {NAME: [SOFT, HARD]}, "kernel": {...}}``: the files are further ones of /etc, at descriptor N and on;
``config`` is the bundle's, without where its root is; a runtime of no known family is asked which it is of; ``podman``
is for `podman`, ``kernel`` for a family that is ``{"kernel": true}`` (see `own_kernel`).
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from carrel.sandbox.launcher import ARGUMENTS_FD, STATUS_FD, WORKSPACE_FD, kernel, limits, own_kernel, packets
from carrel.sandbox.launcher.podman import Podman

PLACE: Final = "/tmp"  # noqa: S108 - there everywhere, and hidden by a mount of our own before anything is put in it
BUNDLE: Final = f"{PLACE}/bundle"
ROOT: Final = f"{BUNDLE}/root"
STATE: Final = f"{BUNDLE}/state"
LOG: Final = f"{BUNDLE}/log"
PANICS: Final = f"{BUNDLE}/panics"
NAME: Final = "sandbox"
CGROUPS: Final = "/sys/fs/cgroup"
_TEMPORARY: Final = "tmp"
_DIRECTORIES: Final = ("etc", "proc", "dev", _TEMPORARY, "workspace")
_BYTES: Final = 16 << 20
_TEXT: Final = 2000
_NO_REASON: Final = "the runtime gave no reason"


def become(descriptors: int) -> NoReturn:
    """Go on as the cradle of a container, with the descriptors 0 to ``descriptors`` - 1; it never comes back."""
    kernel.die_with_parent()
    order = json.loads(packets.content(ARGUMENTS_FD))
    kernel.leave_mounts_and_processes()
    child = os.fork()
    if child == 0:
        _supervise(order, descriptors)
    os.write(STATUS_FD, json.dumps({"child-pid": child}).encode() + b"\n")
    os.closerange(0, STATUS_FD)
    # It is left for the launcher to wait for, which learns from that what it used.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    os._exit(0)


def _supervise(order: dict[str, Any], descriptors: int) -> NoReturn:
    try:
        kernel.die_with_parent()
        os.umask(0o022)
        with socket.socket(fileno=os.dup(STATUS_FD)) as status:
            if not status.recv(1):
                os._exit(1)
            way = _way(order)
            own = bool(way.get("kernel"))
            if own:
                order = own_kernel.fitted(order, root=ROOT)
            podman = Podman(order, way, place=BUNDLE, root=ROOT) if order["podman"] is not None else None
            _lay_out(order, plain=own)
            if podman is not None:
                podman.lay_out()
            _close_cgroups(hidden=way["hide_cgroups"])
            os.closerange(3, descriptors)
            if own:
                kernel.become_root_of_nothing()
                end = _in_its_own(order, way, status)
            else:
                end = {
                    "exit-code": _contained(order, way, status) if podman is None else _by_podman(order, podman, status)
                }
            status.send(json.dumps(end).encode() + b"\n")
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - nothing may go on as a second launcher
        with contextlib.suppress(OSError):
            os.write(2, f"{error}\n".encode())
    os._exit(1)


def _lay_out(order: dict[str, Any], *, plain: bool) -> None:
    """Make the bundle. All that is mounted is opened first, for the bundle's place hides what was there."""
    kernel.mount_new("proc", "/proc")
    workspace = _again(WORKSPACE_FD)
    sources = [(os.open(source, os.O_PATH | os.O_CLOEXEC), target) for source, target in order["mounts"]]
    kernel.mount_new("tmpfs", PLACE, f"mode=0700,size={_BYTES}", plain=plain)
    root = Path(ROOT)
    for directory in (Path(BUNDLE), Path(STATE), root, *(root / name for name in _DIRECTORIES)):
        directory.mkdir(0o755)
    # Some runtimes give what they mount the mode of what it is mounted on.
    (root / _TEMPORARY).chmod(0o1777)
    files = {name: text.encode() for name, text in order["etc"].items()}
    files |= {name: packets.content(order["skip"] + place) for place, name in enumerate(order["files"])}
    for name, content in files.items():
        file = root / "etc" / name
        file.parent.mkdir(0o755, parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o444)
    for fd, target in sources:
        Path(ROOT + target).mkdir(0o755, parents=True, exist_ok=True)
        kernel.mount_held(fd, ROOT + target)
        os.close(fd)
    for target, link in order["links"]:
        Path(ROOT + link).parent.mkdir(0o755, parents=True, exist_ok=True)
        Path(ROOT + link).symlink_to(target)
    kernel.mount_held(workspace, f"{ROOT}/workspace", writable=True)
    os.close(workspace)
    config = {**order["config"], "root": {"path": ROOT, "readonly": True}}
    Path(BUNDLE, "config.json").write_bytes(json.dumps(config).encode())


def _again(fd: int) -> int:
    """The directory behind ``fd``, opened in this mount namespace: found by its name, and known to be the same one."""
    name = Path(f"/proc/self/fd/{fd}").readlink()
    again = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(fd), os.fstat(again)):
        raise OSError("the workspace was moved while its sandbox began")
    return again


def _close_cgroups(*, hidden: bool) -> None:
    """Let no runtime make a cgroup, nor move the container out of the launcher's, where that is delegated.

    Some end where they do not know what they find, and see nothing; others go on where they may write nothing.
    """
    if not Path(CGROUPS).is_dir():
        return
    if hidden:
        kernel.mount_new("tmpfs", CGROUPS, "mode=0555,size=4096")
        return
    held = os.open(CGROUPS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.mount_held(held, CGROUPS)
    finally:
        os.close(held)


def _way(order: dict[str, Any]) -> dict[str, Any]:
    """How the runtime is called: by its family, which the first word that it says of its version tells."""
    families: dict[str, dict[str, Any]] = order["families"]
    family = order["family"]
    if family is None:
        family = (_version(order["runtime"]).split() or [""])[0]
    return families.get(family, families[""])


def _version(program: str) -> str:
    """What a runtime says of its version; nothing where it says none."""
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            nothing = os.open("/dev/null", os.O_RDWR)
            packets.placed([nothing, tells, nothing])
            os.execve(program, [Path(program).name, "--version"], {})  # noqa: S606 - to be asked what it is
        finally:
            os._exit(127)
    os.close(tells)
    with open(told, "rb") as file:
        said = file.read(_TEXT)
    os.waitpid(child, 0)
    return said.decode("utf-8", "replace")


def _contained(order: dict[str, Any], way: dict[str, Any], status: socket.socket) -> int:
    """Run the container to its end and give its exit code; a death by signal N is 128 + N."""
    ended: dict[int, int] = {}
    first = _created(order, way, ended)
    _hold(first, order, status)
    return _started(order, way, first, ended)


def _in_its_own(order: dict[str, Any], way: dict[str, Any], status: socket.socket) -> dict[str, Any]:
    """The same in a kernel of its own, whose process is not the command; nobody is shown a way into that."""
    ended: dict[int, int] = {}
    way = {**way, "options": [*way["options"], f"--panic-log={PANICS}"]}
    first = _created(order, way, ended)
    limits.set_on(first, order["rlimits"])
    memory = own_kernel.Memory(first, order["rlimits"]["FSIZE"][0])
    code = _started(order, way, first, ended, watch=memory.watch)
    end = memory.judged(code)
    said = own_kernel.last_words(PANICS) or end.pop("said", "")
    if said:
        os.write(2, f"{said}\n".encode())
    return {"exit-code": code, **end}


def _created(order: dict[str, Any], way: dict[str, Any], ended: dict[int, int]) -> int:
    """Have the container made: the pid of its first process, which waits."""
    create = ["create", "--bundle", BUNDLE, "--pid-file", f"{BUNDLE}/pid", NAME]
    if _wait(_runtime(order, way, create, as_container=True), ended) != 0:
        raise OSError(_said())
    return int(Path(BUNDLE, "pid").read_bytes())


def _started(
    order: dict[str, Any],
    way: dict[str, Any],
    first: int,
    ended: dict[int, int],
    *,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Let the container's ``first`` process go, and give its exit code; ``watch`` is called meanwhile."""
    if _wait(_runtime(order, way, ["start", NAME]), ended) != 0:
        raise OSError(_said())
    watch()
    code = _wait(first, ended)
    return code if code >= 0 else 128 - code


def _by_podman(order: dict[str, Any], podman: Podman, status: socket.socket) -> int:
    """The same by podman, whose own end is that of the container's."""
    ended: dict[int, int] = {}
    child, to_first = podman.begin()
    with to_first:
        first = podman.first(to_first)
        if first is None:
            _wait(child, ended)
            raise OSError(_said())
        _hold(first, order, status)
        podman.let_go(to_first)
    code = _wait(child, ended)
    return code if code >= 0 else 128 - code


def _hold(first: int, order: dict[str, Any], status: socket.socket) -> None:
    """Set the limits of a container's first process, and show the launcher who that is."""
    limits.set_on(first, order["rlimits"])
    handle = os.pidfd_open(first)
    try:
        socket.send_fds(status, [b'{"inside": true}\n'], [handle])
    finally:
        os.close(handle)


def _wait(pid: int, ended: dict[int, int]) -> int:
    """Wait for a child, or one that was left to this process; the ends of others on the way are put by."""
    while pid not in ended:
        other, status = os.waitpid(-1, 0)
        ended[other] = os.waitstatus_to_exitcode(status)
    return ended.pop(pid)


def _runtime(order: dict[str, Any], way: dict[str, Any], arguments: list[str], *, as_container: bool = False) -> int:
    """Start the runtime. What it creates has the three streams; what it has to say itself goes into its log."""
    program = order["runtime"]
    argv = [Path(program).name, "--root", STATE, "--log", LOG, *way["options"], *arguments]
    child = os.fork()
    if child == 0:
        try:
            if not as_container:
                nothing = os.open("/dev/null", os.O_RDWR)
                for stream in (0, 1, 2):
                    os.dup2(nothing, stream)
            # It needs no other program, and finds none: with newuidmap, where that is installed, it would try to take
            # ids that nobody has here, and say so in the command's own output.
            environment = {"HOME": STATE, "XDG_RUNTIME_DIR": STATE, "PATH": STATE}
            os.execve(program, argv, environment)  # noqa: S606 - what the whole is for
        finally:
            os._exit(127)
    return child


def _said() -> str:
    """The last of what the runtime wrote into its log."""
    with contextlib.suppress(OSError):
        return Path(LOG).read_bytes()[-_TEXT:].decode("utf-8", "replace").strip() or _NO_REASON
    return _NO_REASON
