"""The two seccomp programs of this machine's architecture, made beforehand and committed beside their policy."""

import platform
from pathlib import Path
from typing import Final

from carrel.errors import SandboxUnavailable

FOLDER: Final = Path(__file__).with_name("filters")
_INSTRUCTION: Final = 8
_DAMAGED: Final = "The seccomp filters of this installation are damaged: install Carrel anew."
_NAMES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def filters(machine: str | None = None) -> tuple[bytes, bytes]:
    """Both programs, as arrays of ``struct sock_filter``; raises SandboxUnavailable where there are none."""
    name = _NAMES.get((machine or platform.machine()).lower())
    if name is None:
        raise SandboxUnavailable(
            f"There are no seccomp filters for {machine or platform.machine()}: the sandbox runs on aarch64 and x86_64."
        )
    try:
        first, second = ((FOLDER / f"{letter}-{name}.bpf").read_bytes() for letter in "ab")
    except OSError as error:
        raise SandboxUnavailable(_DAMAGED) from error
    if not first or not second or len(first) % _INSTRUCTION or len(second) % _INSTRUCTION:
        raise SandboxUnavailable(_DAMAGED)
    return first, second
