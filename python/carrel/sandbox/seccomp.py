"""The seccomp programs of this machine's architecture: two made beforehand, and one of what a mode refuses besides."""

import platform
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from carrel.errors import SandboxUnavailable
from carrel.sandbox.protocol import KILLED

FOLDER: Final = Path(__file__).with_name("filters")
_INSTRUCTION: Final = 8
_DAMAGED: Final = "The seccomp filters of this installation are damaged: install Carrel anew."
_NAMES: Final = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


_LOAD: Final = 0x20
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_REFUSE: Final = 0x00050000
_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000


def denying(refusals: Mapping[str, int], machine: str | None = None) -> bytes:
    """A program that gives each of ``refusals`` its errno, or ends who makes it, and lets all else through.

    It is to be stacked upon the two, of whose answers and its own the kernel takes the strictest. A call that the
    architecture does not have is refused by the first of them already, and so is a foreign one's.
    """
    answers = sorted((number, refusals[name]) for name, number in _numbers(machine).items() if name in refusals)
    code = [struct.pack("=HBBI", _LOAD, 0, 0, 0)]
    for number, answer in answers:
        verdict = _KILL if answer == KILLED else _REFUSE | answer
        code += [struct.pack("=HBBI", _JUMP_EQUAL, 0, 1, number), struct.pack("=HBBI", _RETURN, 0, 0, verdict)]
    return b"".join([*code, struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW)])


def _numbers(machine: str | None) -> dict[str, int]:
    """The calls of an architecture that the policy speaks of, by name."""
    name = _NAMES.get((machine or platform.machine()).lower(), "")
    try:
        text = (FOLDER / f"a-{name}.txt").read_text(encoding="ascii")
    except OSError as error:
        raise SandboxUnavailable(_DAMAGED) from error
    return {words[1]: int(words[0]) for line in text.splitlines() if (words := line.split()) and words[0].isdigit()}


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
