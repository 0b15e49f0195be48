"""Control groups (cgroup v2): one for each tenant, in it one for each sandbox, in that one for each command sent in.

The gateway has prepared the subtree (see `carrel.sandbox.delegation`): its own processes are in ``gateway``, and
``tenants`` may divide the controllers there are. Where a controller is missing, its files are not there and not
written; the group still kills whole, and counts processor time.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

GATEWAY: Final = "gateway"
TENANTS: Final = "tenants"
MAIN: Final = "main"
"""Where the sandbox's own processes are, in a sandbox that commands are sent into: a group that is divided is empty."""
SWEEP_SECONDS: Final = 5.0
_OPTIONAL: Final = frozenset({"memory.swap.max", "memory.oom.group", "io.weight"})
"""What a kernel with the controller may still lack."""


class Group:
    """One group, held by a descriptor; files in it are read and written by name. Made where it is missing."""

    def __init__(self, path: str) -> None:
        self.path = path
        with contextlib.suppress(FileExistsError):
            Path(path).mkdir(0o755)
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def set(self, files: Mapping[str, str], controllers: frozenset[str]) -> None:
        """Write ``files`` of those controllers; raises OSError where the kernel does not take one."""
        for name, value in files.items():
            if name.partition(".")[0] not in controllers:
                continue
            try:
                self._write(name, value)
            except FileNotFoundError:
                if name not in _OPTIONAL:
                    raise

    def divide(self, controllers: frozenset[str]) -> None:
        """Let groups in here have limits of their own."""
        if controllers:
            self._write("cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(controllers)))

    def join(self) -> None:
        """Move this process in: slow, for the kernel waits until nobody looks at who is where."""
        self._write("cgroup.procs", "0")

    def kill(self) -> None:
        """Kill all that is in here, and in groups in here, however it is related."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", "1")

    @property
    def populated(self) -> bool:
        """Whether a process is in here or in a group in here."""
        return self.counts("cgroup.events").get("populated") == 1

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all that was ever in here."""
        return self.counts("cpu.stat").get("usage_usec", 0) / 1e6

    def counts(self, name: str) -> dict[str, int]:
        """A file of names and numbers; empty where it cannot be read."""
        found: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for line in self.read(name).splitlines():
                key, _, value = line.partition(" ")
                found[key] = int(value)
        return found

    def read(self, name: str) -> str:
        """The text of a file in here."""
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            return os.read(fd, 1 << 16).decode()
        finally:
            os.close(fd)

    def close(self) -> None:
        """Give the descriptor back; the group stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _write(self, name: str, value: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)


class Place:
    """The group of one sandbox or of one command in it. ``fd`` is what a process is cloned into."""

    def __init__(self, groups: "Groups", whole: Group, inner: Group, above: tuple[Group, ...], wanted: Any) -> None:
        self.whole = whole
        self.cpu_limit: float = wanted["cpu_seconds"]
        self._groups = groups
        self._inner = inner
        self._above = above
        self._before = [_met(group) for group in above]
        self._cpu_before = 0.0

    @property
    def fd(self) -> int:
        """Where processes go."""
        return self._inner.fd

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all that was in here since it is what it is."""
        return self.whole.cpu_seconds - self._cpu_before

    def renew(self) -> None:
        """Be for what begins now: what was counted so far was of who has waited here."""
        self._before = [_met(group) for group in self._above]
        self._cpu_before = self.whole.cpu_seconds

    def command(self, number: int, wanted: Any) -> "Place":
        """A group of its own for a command that is sent in, which may outlive it."""
        group = Group(f"{self.whole.path}/c-{number}")
        try:
            group.set(wanted["files"], self._groups.controllers)
        except BaseException:
            self._groups.remove(group)
            raise
        return Place(self._groups, group, group, (self.whole, self._above[-1]), wanted)

    def over(self) -> str | None:
        """The limit that is passed and that somebody has to look at: processor time."""
        return "cpu" if self.cpu_seconds >= self.cpu_limit else None

    def death(self) -> str | None:
        """Whose lack of memory the kernel has ended it for, where it has: its own, its tenant's, or the machine's."""
        if not self._inner.counts("memory.events").get("oom_kill", 0):
            return None
        met = [_met(self.whole)[0] or _met(self._inner)[0]]
        met += [_met(group)[0] - before[0] for group, before in zip(self._above, self._before, strict=True)]
        if any(met[:-1]):
            return "memory"
        return "tenant_memory" if met[-1] else "machine_memory"

    def peak(self, controller: str) -> int:
        """The most that was in here at a time, of memory or of processes; 0 where the kernel does not say."""
        try:
            return int(self.whole.read(f"{controller}.peak"))
        except (OSError, ValueError):
            return 0

    def refused_forks(self) -> int:
        """How often a process more than there may be was refused."""
        above = zip(self._above, self._before, strict=True)
        return _met(self.whole)[1] + sum(_met(group)[1] - before[1] for group, before in above)

    def end(self, *, kill: bool) -> None:
        """Give it up, with all that is still in it or without; what cannot be removed yet goes with the sandbox."""
        if kill:
            self.whole.kill()
            self._groups.remove_beneath(self.whole)
        self._inner.close()
        self._groups.remove(self.whole)
        if len(self._above) == 1:
            self._groups.leave(self._above[0])


def _met(group: Group) -> tuple[int, int]:
    """How often a group came to its own limits so far: of memory, of processes."""
    local = "pids.events.local"
    forks = group.counts(local) or group.counts("pids.events")
    return group.counts("memory.events.local").get("oom", 0), forks.get("max", 0)


class Groups:
    """The subtree at ``path``. ``controllers`` are those that sandboxes are limited by."""

    def __init__(self, path: str) -> None:
        self._top = Group(f"{path}/{TENANTS}")
        self.controllers = frozenset(self._top.read("cgroup.subtree_control").split())
        self._left: set[str] = set()
        gateway = Group(f"{path}/{GATEWAY}")
        try:
            if str(os.getpid()) not in gateway.read("cgroup.procs").split():
                gateway.join()
        finally:
            gateway.close()
        self._sweep()

    def _sweep(self) -> None:
        """Kill and remove what a launcher that was lost has left."""
        self._top.kill()
        until = time.monotonic() + SWEEP_SECONDS
        while self._top.populated and time.monotonic() < until:
            time.sleep(0.005)
        self.remove_beneath(self._top)

    def begin(self, name: str, wanted: Any, *, kept: bool) -> Place:
        """A group for a sandbox; ``kept``: commands are sent into it. Raises OSError where its limits do not hold."""
        tenant = Group(f"{self._top.path}/{wanted['tenant']}")
        made: list[Group] = []
        try:
            tenant.set(wanted["tenant_files"], self.controllers)
            tenant.divide(self.controllers)
            made.append(whole := Group(f"{tenant.path}/{name}"))
            files = dict(wanted["files"])
            if kept:
                # The kernel is to choose one command in it, not all.
                files.pop("memory.oom.group", None)
            whole.set(files, self.controllers)
            inner = whole
            if kept:
                whole.divide(self.controllers)
                made.append(inner := Group(f"{whole.path}/{MAIN}"))
                inner.set({"memory.oom.group": "1"}, self.controllers)
        except BaseException:
            for group in reversed(made):
                self.remove(group)
            self.leave(tenant)
            raise
        return Place(self, whole, inner, (tenant,), wanted)

    def remove(self, group: Group) -> None:
        """Remove a group; one that still has processes is tried again later."""
        group.close()
        self._remove(group.path)

    def leave(self, tenant: Group) -> None:
        """Remove a tenant's group where nothing of it runs."""
        tenant.close()
        with contextlib.suppress(OSError):
            Path(tenant.path).rmdir()
        for path in list(self._left):
            self._remove(path)

    def remove_beneath(self, group: Group) -> None:
        """Kill and remove the groups in ``group``: what commands have left."""
        for name in os.listdir(group.fd):
            if (path := Path(group.path, name)).is_dir():
                inner = Group(str(path))
                inner.kill()
                self.remove_beneath(inner)
                self.remove(inner)

    def _remove(self, path: str) -> None:
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            self._left.discard(path)
        except OSError:
            self._left.add(path)
        else:
            self._left.discard(path)
