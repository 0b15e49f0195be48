"""What a job's declared limits are to the kernel: files of its cgroup, and of its tenant's. Pure."""

from typing import Final

from carrel.sandbox.protocol import Job, Mechanism

CPU_PERIOD: Final = 100_000
RUNTIME_PIDS: Final = 64
"""What an OCI runtime needs for itself; in a container it is the rlimit that refuses first."""

ENGINE_BYTES: Final = 96 << 20
"""What podman needs for itself, which is in the group of its container."""


def group(tenant: str, job: Job) -> dict[str, object]:
    """The cgroup of one run of ``job``, as the launcher is told of it."""
    limits = job.limits
    return {
        "tenant": tenant,
        "tenant_files": {
            "cpu.weight": str(limits.weight),
            "cpu.max": _cpus(limits.tenant_cpus),
            "io.weight": f"default {limits.weight}",
            "memory.max": "max" if limits.tenant_memory_bytes is None else str(limits.tenant_memory_bytes),
            "memory.swap.max": "0",
        },
        "files": {
            "cpu.max": _cpus(limits.cpus),
            # What it writes to /tmp and /dev/shm is memory, and counts.
            "memory.max": str(limits.memory_bytes + (ENGINE_BYTES if job.confinement.engine is not None else 0)),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
            # One fewer than the rlimit lets through, for bubblewrap outside is counted: it is the group that refuses
            # first, and tells that it did.
            "pids.max": str(limits.pids + (RUNTIME_PIDS if job.confinement.runtime == "oci" else 0)),
        },
        "cpu_seconds": limits.cpu_seconds,
    }


def _cpus(count: float | None) -> str:
    return f"{'max' if count is None else max(1000, round(count * CPU_PERIOD))} {CPU_PERIOD}"


def mechanisms(controllers: frozenset[str] | None) -> tuple[Mechanism, ...]:
    """How each limit is held, where sandboxes have cgroups with these controllers; None where they have no cgroup."""
    grouped = controllers is not None
    memory, cpu, pids = (controllers is not None and name in controllers for name in ("memory", "cpu", "pids"))
    none = "nothing on this machine: its cgroup is not delegated with the controller"
    return (
        Mechanism("memory", "cgroup, and rlimit for each process", "sandbox")
        if memory
        else Mechanism("memory", "rlimit", "process"),
        Mechanism("cpu", "launcher, by the cgroup's clock, and rlimit for each process", "sandbox")
        if grouped
        else Mechanism("cpu", "rlimit", "process"),
        Mechanism("pids", "cgroup, and rlimit in the sandbox's own user namespace", "sandbox")
        if pids
        else Mechanism("pids", "rlimit in the sandbox's own user namespace", "sandbox"),
        Mechanism("cpus", "cgroup" if cpu else none, "sandbox"),
        Mechanism("tenant_memory", "cgroup" if memory else none, "tenant"),
        Mechanism("tenant_cpus", "cgroup" if cpu else none, "tenant"),
        Mechanism("weight", "gateway, and cgroup" if cpu else "gateway", "tenant"),
        Mechanism("open_files", "rlimit", "process"),
        Mechanism("file_size", "rlimit", "process"),
        Mechanism("tmp", "size of the tmpfs", "sandbox"),
        Mechanism("wall_clock", "launcher", "sandbox"),
        Mechanism("output", "gateway", "sandbox"),
        Mechanism("disk", "gateway, which keeps a part of it free", "tenant"),
        Mechanism(
            "disk_quota",
            "gateway, which measures the workspaces" + (", standing still where they may be over" if grouped else ""),
            "tenant",
        ),
        Mechanism("concurrent", "gateway, in fair shares where the machine is full", "tenant"),
    )
