"""The cgroup v2 subtree that this process was given for its own use, made ready for sandboxes.

It is ours to divide only where whoever manages the tree has said so: systemd, by `Delegate=yes`, leaves the attribute
`user.delegate` on the directory; a container's own root of the tree is its own, which the machine's (it has no type) is
not. Being writable says nothing: a user's whole session is.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carrel.sandbox.launcher.groups import GATEWAY, TENANTS

CONTROLLERS: Final = ("cpu", "io", "memory", "pids")
MEND: Final = "start the gateway as a systemd service with Delegate=yes, as the NixOS module does"


class NotDelegated(Exception):
    """There is no subtree to use; the message is why, and what mends it."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """A subtree that is ours: ``path`` in the file system, the controllers that sandboxes are limited by, and a lock.

    ``lock`` is held as long as the process lives, so that no other gateway takes what runs here for leftovers.
    """

    path: str
    controllers: tuple[str, ...]
    lock: int

    def freeze(self, tenant: str, still: bool) -> None:
        """Let all that runs in a tenant's sandboxes stand still, or go on. Where nothing runs, nothing is done."""
        with contextlib.suppress(OSError):
            _write(Path(self.path, TENANTS, tenant, "cgroup.freeze"), str(int(still)))


def take(process: Path = Path("/proc/self")) -> Delegation:
    """Find this process's own delegated group and make it ready; raises NotDelegated."""
    return prepare(found(process))


def found(process: Path = Path("/proc/self")) -> Path:
    """The directory of the subtree that is ours; raises NotDelegated."""
    own = next(
        (line[3:] for line in (process / "cgroup").read_text().splitlines() if line.startswith("0::")), None
    )  # fmt: skip
    mounts = list(_mounts((process / "mountinfo").read_text()))
    if own is None or not mounts:
        raise NotDelegated("this machine has no cgroup v2 hierarchy mounted")
    for root, mounted in mounts:
        if own == root or own.startswith(root.rstrip("/") + "/"):
            directory = Path(mounted, own[len(root.rstrip("/")) :].lstrip("/"))
            break
    else:
        raise NotDelegated("this process's cgroup lies outside of what is mounted here")
    if directory.name == GATEWAY and _is_ours(directory.parent, namespace_root=False):
        directory = directory.parent
    elif not _is_ours(directory, namespace_root=own == "/" and (directory / "cgroup.type").exists()):
        raise NotDelegated(f"this process's cgroup is not delegated to it: {MEND}")
    if not all(os.access(directory / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control")):
        raise NotDelegated(f"this process's cgroup is not writable for its uid: {MEND}")
    return directory


def prepare(directory: Path) -> Delegation:
    """Move who is in the group into one beneath it, and let the others have limits; raises NotDelegated."""
    try:
        for name in (GATEWAY, TENANTS):
            (directory / name).mkdir(exist_ok=True)
        lock = os.open(directory / TENANTS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotDelegated(f"no cgroup can be made in the delegated one ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _move_all(directory / "cgroup.procs", directory / GATEWAY / "cgroup.procs")
        for group in (directory, directory / TENANTS):
            for name in set((group / "cgroup.controllers").read_text().split()) & set(CONTROLLERS):
                _write(group / "cgroup.subtree_control", f"+{name}")
        held = (directory / TENANTS / "cgroup.subtree_control").read_text().split()
    except BlockingIOError:
        os.close(lock)
        raise NotDelegated("another gateway uses this cgroup already") from None
    except OSError as error:
        os.close(lock)
        raise NotDelegated(f"the delegated cgroup cannot be divided ({error.strerror})") from error
    return Delegation(str(directory), tuple(sorted(held)), lock)


def _is_ours(directory: Path, *, namespace_root: bool) -> bool:
    try:
        return namespace_root or os.getxattr(directory, "user.delegate") == b"1"
    except OSError:
        return False


def _move_all(source: Path, target: Path) -> None:
    """Move every process; one that has ended meanwhile is none. New ones are looked for until there is none."""
    for _ in range(100):
        pids = source.read_text().split()
        if not pids:
            return
        for pid in pids:
            try:
                _write(target, pid)
            except ProcessLookupError:
                continue


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _mounts(table: str) -> Iterator[tuple[str, str]]:
    """Root and mount point of each cgroup v2 mount in ``table``, which is in the form of /proc/self/mountinfo."""
    for line in table.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            root, point = before.split(" ")[3:5]
            yield _plain(root), _plain(point)


def _plain(text: str) -> str:
    """A path as it is, without the octal escapes that the kernel puts for spaces and the like."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
