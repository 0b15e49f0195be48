"""How a command ended, in words for whoever ran it: which limit it was, how much that is, and what to do. Pure.

What is not known is not said: a command that ran into a limit by itself, and told so in its own words, gets the limit's
value beside them and no verdict.
"""

from typing import Final

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.bwrap import SHM, SHM_BYTES, TMP
from carrel.sandbox.output import FLOOD
from carrel.sandbox.protocol import KillReason, Outcome

_SIGKILL: Final = 9
_SIGSYS: Final = 31
_LOOKED_AT: Final = 4096
_ENDED: Final[dict[KillReason, tuple[str, str]]] = {
    "wall_clock": ("it was over its time of {wall_seconds:g} s (sandbox.wall_seconds)", "Do less at once."),
    "cpu": ("it was over its {cpu_seconds} s of processor time (sandbox.cpu_seconds)", "Do less at once."),
    "memory": (
        "it was over its {memory} of memory, that of what is in /tmp included (sandbox.memory_bytes)",
        "Work on less at a time.",
    ),
    "tenant_memory": (
        "all commands of this tenant together were over their {tenant_memory} of memory (sandbox.tenant_memory_bytes)",
        "Run fewer at a time.",
    ),
    "machine_memory": ("the machine was short of memory, and sandboxes go first", "Try again with less."),
    "file_size": ("it wrote a file of over {file_size} (sandbox.file_size_bytes)", "Write several smaller ones."),
    "output": (
        "it wrote {flood} more than the {output} that are kept of what is written (sandbox.output_bytes)",
        "Write into a file in /workspace, and read parts of that.",
    ),
    "disk": ("the machine's disk is nearly full", "Delete what is not needed, or ask the operator."),
    "disk_quota": (
        "the tenant's workspaces take more of the disk than they may (quotas.disk_bytes)",
        "Delete what is not needed: commands that do are let through.",
    ),
    "inode_quota": (
        "the tenant's workspaces hold more files than they may (quotas.disk_files)",
        "Delete what is not needed: commands that do are let through.",
    ),
    "cancelled": ("it was cancelled", ""),
    "launcher_lost": ("the sandbox was lost", "Run it again."),
}  # fmt: skip
_CHOSEN: Final = (
    "it was over the {wall_seconds:g} s that the call gave it (timeout_seconds)",
    "Do less at once, or give it more: {most:g} s at most (sandbox.wall_seconds).",
)
_MET: Final[tuple[tuple[tuple[bytes, ...], str], ...]] = (
    ((b"MemoryError", b"Cannot allocate memory", b"out of memory", b"bad_alloc"),
     "memory is limited to {memory} (sandbox.memory_bytes)"),
    ((b"fork: ", b"can't start new thread", b"Cannot fork", b"Resource temporarily unavailable"),
     "processes and threads are limited to {pids} (sandbox.pids)"),
    ((b"Too many open files",), "open files are limited to {open_files} (sandbox.open_files)"),
    ((b"File too large", b"File size limit exceeded"), "files are limited to {file_size} (sandbox.file_size_bytes)"),
    ((b"No space left on device",), f"{TMP} is limited to {{tmp}} (sandbox.tmp_bytes), {SHM} to {{shm}}"),
)  # fmt: skip
"""What programs say as they run into a limit, and the limit that such words are usually about."""


def ending(outcome: Outcome, limits: SandboxConfig, *, most_seconds: float | None = None) -> str:
    """How it ended. ``limits`` are those that it ran with; of its time, ``most_seconds`` is what it could have had."""
    values = _values(limits)
    if outcome.killed is not None:
        chosen = outcome.killed == "wall_clock" and most_seconds is not None and limits.wall_seconds < most_seconds
        reason, advice = _CHOSEN if chosen else _ENDED[outcome.killed]
        told = f"killed: {reason}; everything it had started was ended. {advice}"
        return told.format_map(values | {"most": most_seconds}).strip()
    if outcome.exit_code is None:
        text = f"ended by signal {outcome.signal}"
        if outcome.signal == _SIGKILL:
            text += ", which no limit of the sandbox sent that is known here"
        elif outcome.signal == _SIGSYS:
            text += ": it made a system call for which the sandbox's seccomp profile ends programs"
    else:
        text = f"exit code {outcome.exit_code}"
    facts = [] if outcome.exit_code == 0 else [fact for words, fact in _MET if _said(outcome.stderr, words)]
    if outcome.refused_forks and _MET[1][1] not in facts:
        facts.append(_MET[1][1])
    return "; ".join([text, *(fact.format_map(values) for fact in facts)])


def size(count: int) -> str:
    """A number of bytes as people say it, exactly where it is a round one."""
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << shift:
            whole, rest = divmod(count, 1 << shift)
            return f"{whole} {unit}" if not rest else f"{count / (1 << shift):.1f} {unit}"
    return f"{count} bytes"


def _said(stderr: bytes, words: tuple[bytes, ...]) -> bool:
    last = stderr[-_LOOKED_AT:]
    return any(word in last for word in words)


def _values(limits: SandboxConfig) -> dict[str, object]:
    return {
        **limits.model_dump(include={"wall_seconds", "cpu_seconds", "pids", "open_files"}),
        "memory": size(limits.memory_bytes),
        "tenant_memory": size(limits.tenant_memory_bytes or 0),
        "file_size": size(limits.file_size_bytes),
        "output": size(limits.output_bytes),
        "tmp": size(limits.tmp_bytes),
        "shm": size(SHM_BYTES),
        "flood": size(FLOOD),
    }
