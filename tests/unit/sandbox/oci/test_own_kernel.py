"""Limits of a kernel of its own: exact within, and around it never more than was declared where nothing else holds."""

from dataclasses import replace

import pytest

from carrel.sandbox import bwrap
from carrel.sandbox.oci import own_kernel
from carrel.sandbox.protocol import Confinement
from tests.fakes.sandboxed import shell

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "grouped", "most", "told"),
    [
        (GIB, False, GIB, False),
        (GIB + (GIB >> 1), False, GIB, False),
        (5 * GIB, False, 5 * GIB, False),
        (GIB >> 1, False, GIB, True),
        # The cgroup holds it exactly, and what is around it alone must not be less.
        (GIB >> 1, True, GIB, False),
        (GIB + 1, True, 2 * GIB, False),
    ],
)
def test_memory_is_bounded_to_whole_grains(memory: int, grouped: bool, most: int, told: bool) -> None:
    made = own_kernel.told(shell("true", memory_bytes=memory), grouped=grouped)
    assert made["around"]["FSIZE"] == (most, most)
    assert bool(made["problem"]) is told
    assert "512 MiB" in made["problem"] or not told


def test_within_are_the_jobs_own_limits_and_no_file_is_longer_than_memory_lets_it() -> None:
    job = shell("true", memory_bytes=GIB, file_size_bytes=3 * GIB, pids=7)
    made = own_kernel.told(job, grouped=False)
    assert made["inside"] == {**bwrap.rlimits(job), "FSIZE": (GIB, GIB)}
    assert made["around"]["NPROC"][0] > 7


def test_what_is_refused_is_said_and_all_else_is_that_kernels() -> None:
    job = replace(shell("true"), confinement=Confinement("oci", "runsc", ("symlink",)))
    made = own_kernel.told(job, grouped=False)["seccomp"]
    assert made["defaultAction"] == "SCMP_ACT_ALLOW"
    rules = {name: rule for rule in made["syscalls"] for name in rule["names"] if not rule.get("args")}
    assert all(rules[name]["errnoRet"] == 1 for name in ("symlink", "unshare", "ptrace", "mount", "bpf"))
    assert "openat" not in rules
    assert all(rule["action"] == "SCMP_ACT_ERRNO" for rule in made["syscalls"])


def test_a_sandbox_that_is_to_be_kept_says_so() -> None:
    assert own_kernel.told(replace(shell("true"), keep="main"), grouped=False)["kept"] is True
    assert own_kernel.told(shell("true"), grouped=False)["kept"] is False
