"""What a sandbox runner is to the rest of Carrel."""

import errno
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil
from typing import Final, Literal, Protocol

from carrel.declare.tenant import SandboxConfig
from carrel.ids import TenantId
from carrel.sandbox.launcher import GATE_PORT
from carrel.sandbox.usage import Use
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Userland

__all__ = [
    "GATE_PORT", "KILLED", "Confinement", "EgressGate", "Job", "KeptSandbox", "KillReason", "Measured", "Mechanism",
    "Outcome", "Pty", "Sandbox", "Size",
]  # fmt: skip

KILLED: Final = -1
"""In place of an errno: whoever makes the call is ended for it."""

KillReason = Literal[
    "wall_clock", "cpu", "memory", "tenant_memory", "machine_memory", "file_size", "output", "disk", "disk_quota",
    "inode_quota", "cancelled", "launcher_lost",
]  # fmt: skip


class EgressGate(Protocol):
    """The one way out of one sandbox.

    ``env`` is added to the environment inside (the proxy's variables, placeholders), ``files`` are put under /etc by
    their path there (certificates).
    """

    @property
    def env(self) -> Mapping[str, str]: ...
    @property
    def files(self) -> Mapping[str, bytes]: ...

    async def prepare(self) -> None:
        """Do off the loop what the first of ``files`` costs; called before each sandbox."""
        ...

    def follow(self, other: "EgressGate", /, *, alone: bool) -> None:
        """Be for whom ``other`` is too: a kept sandbox goes on with a command of theirs, in its environment.

        ``alone``: nothing of anybody else's runs in it any more.
        """
        ...

    async def serve(self, listener: socket.socket) -> None:
        """Answer what comes to ``listener``, which listens inside, until cancelled; the caller closes it.

        What a client did wrong raises nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a job is run by: a runner, for ``oci`` its runtime and who calls that, and what calls are refused besides.

    ``answers`` are those of a profile: a call that is refused, and the errno that it gets, or KILLED. ``mode`` is the
    declared mode that says so, whose limits the job has.
    """

    runtime: Literal["bwrap", "oci"] = "bwrap"
    runtime_class: str = "crun"
    deny_calls: tuple[str, ...] = ()
    engine: Literal["podman"] | None = None
    answers: tuple[tuple[str, int], ...] = ()
    mode: str = field(default="", compare=False)

    @property
    def refusals(self) -> Mapping[str, int]:
        """Each call that is refused besides, and the errno that it gets, or KILLED."""
        return dict.fromkeys(self.deny_calls, errno.EPERM) | dict(self.answers)

    @property
    def runner(self) -> str:
        """What runs it, in a word or two."""
        if self.runtime == "bwrap":
            return self.runtime
        return self.runtime_class if self.engine is None else f"{self.engine} with {self.runtime_class}"


@dataclass(frozen=True, slots=True)
class Job:
    """One command to run. ``argv[0]`` is an absolute path inside or a name looked up on the userland's PATH.

    ``workspace`` is the path beneath the tenant's root that is mounted read-write at /workspace. ``env`` is added to
    the fixed minimal environment. ``limits`` are the tenant's. Without a ``gate`` nothing at all is reachable.
    ``keep`` names the worker of this tenant that it is run in; equal names share processes, ``/tmp`` and the gate that
    the worker was started with. Without one, nothing that the command starts lives on. ``confinement`` is the
    declared mode's, see ``modes``.
    """

    argv: tuple[str, ...]
    limits: SandboxConfig
    userland: Userland
    stdin: bytes = b""
    cwd: str = "/workspace"
    workspace: str = "sandbox"
    env: Mapping[str, str] = field(default_factory=dict)
    gate: EgressGate | None = None
    keep: str | None = None
    confinement: Confinement = Confinement()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. Output is kept up to ``limits.output_bytes`` in all; ``output_dropped`` is what was over.

    ``exit_code`` is None where a signal ended it; ``killed`` says which limit did, where one did. ``note`` is what
    there is to say about the sandbox that it was run in. ``refused_forks``: so often there were `pids` processes
    already, where that is known. ``memory_bytes`` and ``pids`` are the most at a time, 0 where nobody counted.
    """

    exit_code: int | None
    signal: int | None
    stdout: bytes
    stderr: bytes
    output_dropped: int
    killed: KillReason | None
    seconds: float
    note: str = ""
    refused_forks: int = 0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    pids: int = 0

    def used(self) -> Mapping[str, int]:
        """What it took, by the names of quotas."""
        return {
            "sandbox_cpu_seconds": ceil(self.cpu_seconds), "sandbox_memory_bytes": self.memory_bytes,
            "sandbox_pids": self.pids,
        }  # fmt: skip


Measured = Callable[[Tenant, str, int], None]
"""Told of a tenant's use of a quota, by its name, whenever it was measured."""


@dataclass(frozen=True, slots=True)
class KeptSandbox:
    """A worker that runs: ``commands`` were run in it so far, ``running`` of them still are."""

    id: str
    tenant: TenantId
    name: str
    began: datetime
    used: datetime
    commands: int
    running: int


@dataclass(frozen=True, slots=True)
class Mechanism:
    """How one limit is held on this machine: for example ("memory", "rlimit", "process")."""

    limit: str
    by: str
    scope: Literal["sandbox", "process", "tenant"]


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in characters."""

    columns: int
    rows: int


class Pty(Protocol):
    """A command on a terminal of its own, whose host end is here.

    ``master`` is that end, a descriptor that does not block; it is the sandbox's to close. ``note`` is what whoever
    types there should know.
    """

    @property
    def master(self) -> int: ...
    @property
    def note(self) -> str: ...

    def resize(self, size: Size, /) -> None:
        """Tell the command that its terminal has another size now."""
        ...

    def pid(self) -> int | None:
        """The number that the command has inside, None where it has not begun or is over."""
        ...

    def stop(self, why: KillReason, /) -> None:
        """End it, with all that it began."""
        ...

    async def ended(self) -> Outcome:
        """How it ended, once it has; what it wrote is still to be read then, and not in here."""
        ...


class Sandbox(Protocol):
    """Runs commands for tenants. Cancelling the awaiting task kills the whole process tree before it returns."""

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        """Run one job to its end; ``on_output`` sees pieces of stdout and stderr as they come.

        Raises SandboxUnavailable where the sandbox cannot be given whole: nothing is ever run with less.
        """
        ...

    def pty(self, tenant: Tenant, job: Job, size: Size, /) -> AbstractAsyncContextManager[Pty]:
        """Run one job on a terminal, for as long as the block lasts or until it ends; then all that it began is killed.

        It takes no place among the tenant's runs: whoever opens terminals bounds them. ``job.limits.wall_seconds`` is
        the longest that it lasts. Raises SandboxUnavailable as ``run`` does.
        """
        ...

    async def room(self, tenant: Tenant, size: int) -> None:
        """Raise DiskQuotaExceeded where a new file of ``size`` bytes is more than the tenant's workspaces may hold."""
        ...

    async def disk(self, tenant: Tenant) -> Use:
        """What the tenant's workspaces take of the disk together, measured now or a moment ago."""
        ...

    def mechanisms(self) -> tuple[Mechanism, ...]:
        """How each limit is held here."""
        ...

    async def check(self, confinement: Confinement | None = None) -> str | None:
        """None where a sandbox really starts here and is tight, else what is wrong and what mends it."""
        ...

    def kept(self) -> tuple[KeptSandbox, ...]:
        """The workers that run."""
        ...

    def busy(self, tenant: TenantId, workspace: str) -> bool:
        """Whether a command runs in that workspace now."""
        ...

    def template(self, sandbox_id: str) -> Job:
        """What a worker was started for: with another ``argv`` it is a further command in it. Raises NotFound."""
        ...

    def log(self, sandbox_id: str) -> bytes:
        """The last of what background processes of a worker wrote; raises NotFound."""
        ...

    async def stop(self, sandbox_id: str) -> None:
        """End a worker with all that runs in it; raises NotFound."""
        ...

    async def stop_tenant(self, tenant: TenantId) -> None:
        """End all workers of a tenant, and what it has on terminals."""
        ...

    async def close(self) -> None:
        """Kill what runs and stop the launcher."""
        ...
