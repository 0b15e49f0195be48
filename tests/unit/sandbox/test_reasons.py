"""Each death has its limit, the limit's value and an advice; what is not known is not said."""

from dataclasses import replace
from typing import get_args

import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.protocol import KillReason, Outcome
from carrel.sandbox.reasons import ending, size

LIMITS = SandboxConfig(wall_seconds=7, cpu_seconds=3, memory_bytes=1 << 30, tenant_memory_bytes=3 << 29, pids=12)
FINE = Outcome(0, None, b"", b"", 0, None, 0.1)


@pytest.mark.parametrize("reason", get_args(KillReason))
def test_every_reason_has_its_words(reason: KillReason) -> None:
    told = ending(replace(FINE, exit_code=None, signal=9, killed=reason), LIMITS)
    assert told.startswith("killed: ")
    assert "everything it had started was ended" in told
    assert "{" not in told


@pytest.mark.parametrize(
    ("reason", "value"),
    [
        ("wall_clock", "7 s (sandbox.wall_seconds)"),
        ("cpu", "3 s of processor time (sandbox.cpu_seconds)"),
        ("memory", "1 GiB of memory, that of what is in /tmp included (sandbox.memory_bytes)"),
        ("tenant_memory", "1.5 GiB of memory (sandbox.tenant_memory_bytes)"),
        ("file_size", "1 GiB (sandbox.file_size_bytes)"),
        ("output", "64 MiB more than the 16 MiB"),
        ("disk_quota", "(quotas.disk_bytes)"),
        ("inode_quota", "(quotas.disk_files)"),
    ],
)
def test_a_limit_is_named_with_its_value(reason: KillReason, value: str) -> None:
    assert value in ending(replace(FINE, exit_code=None, signal=9, killed=reason), LIMITS)


def test_a_time_that_the_call_chose_is_told_as_its_own() -> None:
    late = replace(FINE, exit_code=None, signal=9, killed="wall_clock")
    told = ending(late, LIMITS, most_seconds=60.0)
    assert "over the 7 s that the call gave it (timeout_seconds)" in told
    assert "60 s at most (sandbox.wall_seconds)" in told
    assert ending(late, LIMITS, most_seconds=7.0) == ending(late, LIMITS)


def test_what_ended_by_itself_has_no_verdict() -> None:
    assert ending(FINE, LIMITS) == "exit code 0"
    assert ending(replace(FINE, exit_code=3), LIMITS) == "exit code 3"
    assert ending(replace(FINE, exit_code=None, signal=11), LIMITS) == "ended by signal 11"
    unknown = ending(replace(FINE, exit_code=None, signal=9), LIMITS)
    assert unknown == "ended by signal 9, which no limit of the sandbox sent that is known here"
    filtered = ending(replace(FINE, exit_code=None, signal=31), LIMITS)
    assert filtered.endswith("seccomp profile ends programs")


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"MemoryError\n", "memory is limited to 1 GiB (sandbox.memory_bytes)"),
        (b"bash: fork: retry: Resource temporarily unavailable", "limited to 12 (sandbox.pids)"),
        (b"OSError: Too many open files", "open files are limited to 1024 (sandbox.open_files)"),
        (b"cat: write error: File too large", "files are limited to 1 GiB (sandbox.file_size_bytes)"),
        (b"cp: No space left on device", "/tmp is limited to 256 MiB (sandbox.tmp_bytes), /dev/shm to 64 MiB"),
    ],
)
def test_who_says_that_it_met_a_limit_gets_its_value(said: bytes, limit: str) -> None:
    told = ending(replace(FINE, exit_code=1, stderr=said), LIMITS)
    assert told.startswith("exit code 1; ")
    assert limit in told
    assert ending(replace(FINE, stderr=said), LIMITS) == "exit code 0", "who did what it should is told nothing"


def test_refused_forks_are_known_whatever_the_program_says() -> None:
    assert "(sandbox.pids)" in ending(replace(FINE, refused_forks=3), LIMITS)


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536 << 10, 5 << 20, 3 << 30)] == [
        "0 bytes", "1023 bytes", "1 KiB", "1.5 MiB", "5 MiB", "3 GiB",
    ]  # fmt: skip
