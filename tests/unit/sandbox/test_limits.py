"""Declared limits as the kernel's files, and what is said to hold them."""

from dataclasses import replace

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.limits import ENGINE_BYTES, RUNTIME_PIDS, group, mechanisms
from carrel.sandbox.protocol import Confinement, Job
from tests.fakes.sandboxed import USR, shell

LIMITS = {
    "memory", "cpu", "pids", "cpus", "tenant_memory", "tenant_cpus", "weight", "open_files", "file_size", "tmp",
    "wall_clock", "output", "disk", "disk_quota", "concurrent",
}  # fmt: skip


def job(**limits: object) -> Job:
    return Job(("true",), SandboxConfig.model_validate(limits), USR)


def test_a_sandbox_has_its_memory_and_processes_and_no_swap() -> None:
    told = group("acme", job(memory_bytes=5 << 20, pids=7, cpu_seconds=9))
    assert told["tenant"] == "acme"
    assert told["cpu_seconds"] == 9
    assert told["files"] == {
        "cpu.max": "max 100000",
        "memory.max": str(5 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "7",
    }


def test_what_an_engine_needs_is_not_taken_from_the_command() -> None:
    plain, container, podman = (
        group("acme", replace(job(memory_bytes=5 << 20, pids=7), confinement=confinement))["files"]
        for confinement in (Confinement(), Confinement("oci"), Confinement("oci", engine="podman"))
    )
    assert isinstance(plain, dict)
    assert isinstance(container, dict)
    assert isinstance(podman, dict)
    assert (plain["memory.max"], container["memory.max"]) == (str(5 << 20), str(5 << 20))
    assert podman["memory.max"] == str((5 << 20) + ENGINE_BYTES)
    assert (plain["pids.max"], container["pids.max"]) == ("7", str(7 + RUNTIME_PIDS))
    assert podman["pids.max"] == container["pids.max"]


def test_a_tenant_has_its_weight_and_the_sum_that_is_declared() -> None:
    free = group("acme", job())["tenant_files"]
    assert free == {
        "cpu.weight": "100", "cpu.max": "max 100000", "io.weight": "default 100", "memory.max": "max",
        "memory.swap.max": "0",
    }  # fmt: skip
    held = group("acme", job(weight=300, tenant_cpus=1.5, tenant_memory_bytes=1 << 30, cpus=0.25))
    assert held["tenant_files"] == {
        "cpu.weight": "300", "cpu.max": "150000 100000", "io.weight": "default 300", "memory.max": str(1 << 30),
        "memory.swap.max": "0",
    }  # fmt: skip
    files = held["files"]
    assert isinstance(files, dict)
    assert files["cpu.max"] == "25000 100000"


def test_each_limit_names_what_holds_it_on_this_machine() -> None:
    for controllers in (None, frozenset[str](), frozenset({"cpu", "memory", "pids"})):
        assert {one.limit for one in mechanisms(controllers)} == LIMITS
    by = {one.limit: (one.by, one.scope) for one in mechanisms(frozenset({"memory"}))}
    assert by["memory"] == ("cgroup, and rlimit for each process", "sandbox")
    assert by["pids"][0].startswith("rlimit")
    assert by["tenant_cpus"][0].startswith("nothing on this machine")
    without = {one.limit: (one.by, one.scope) for one in mechanisms(None)}
    assert without["memory"] == without["cpu"] == ("rlimit", "process")
    assert without["tenant_memory"][0].startswith("nothing on this machine")
    assert shell("true").limits.tenant_cpus is None
