"""Writes the sandbox's seccomp programs, with libseccomp: ``python -m tests.house.generate_filters``.

What is decided stands in ``carrel/sandbox/filters/policy.toml``, to be read and reviewed; what is written beside it
are the two programs for each architecture, as the kernel takes them, and as text what becomes of each call there, for
the numbers and what an architecture lacks cannot be seen in the policy. All are committed: no gateway needs libseccomp.
"""

import errno
import os
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyseccomp as seccomp

FILTERS: Final = Path(__file__).resolve().parents[2] / "python" / "carrel" / "sandbox" / "filters"
ARCHITECTURES: Final = {"x86_64": seccomp.Arch.X86_64, "aarch64": seccomp.Arch.AARCH64}
UNKNOWN: Final = -1
"""What libseccomp resolves a name to that it has never heard of; other negative numbers are of other architectures."""
CLONE_ARGUMENT: Final = 0
LOW_32: Final = 0xFFFF_FFFF
INET: Final = (2, 10)
NETLINK: Final = (16,)


@dataclass(frozen=True)
class Policy:
    """The names, as ``policy.toml`` has them."""

    allow: frozenset[str]
    deny: frozenset[str]
    absent: frozenset[str]
    families: tuple[int, ...]
    netlink_protocols: tuple[int, ...]
    inet_protocols: tuple[int, ...]
    ioctls: tuple[int, ...]
    namespaces: tuple[int, ...]


def load(text: str | None = None) -> Policy:
    """The policy; raises ValueError where a name is in two lists, for libseccomp would keep the first, in silence."""
    told = tomllib.loads(text or (FILTERS / "policy.toml").read_text(encoding="utf-8"))
    lists = {key: [name for group in told[key].values() for name in group] for key in ("allow", "deny", "absent")}
    seen: dict[str, str] = {}
    for key, names in lists.items():
        for name in names:
            if name in seen:
                raise ValueError(f"policy.toml: {name} is in {seen[name]} and in {key}")
            seen[name] = key
    second = told["second"]
    return Policy(
        allow=frozenset(lists["allow"]),
        deny=frozenset(lists["deny"]),
        absent=frozenset(lists["absent"]),
        families=tuple(second["families"]),
        netlink_protocols=tuple(second["netlink_protocols"]),
        inet_protocols=tuple(second["inet_protocols"]),
        ioctls=tuple(second["ioctls"]),
        namespaces=tuple(second["namespaces"]),
    )


def first(policy: Policy, arch: Any) -> Any:
    """Filter A: what is not listed does not exist (ENOSYS), what is denied is refused (EPERM)."""
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    _only(made, arch)
    resolve(policy.absent, arch)
    for name in sorted(resolve(policy.allow, arch)):
        made.add_rule(seccomp.ALLOW, name)
    for name in sorted(resolve(policy.deny, arch)):
        made.add_rule(seccomp.ERRNO(errno.EPERM), name)
    return made


def resolve(names: frozenset[str], arch: Any) -> dict[str, int]:
    """The calls that ``arch`` has, by name; raises ValueError for a name that no architecture has."""
    found = {name: seccomp.resolve_syscall(arch, name) for name in names}
    unknown = sorted(name for name, number in found.items() if number == UNKNOWN)
    if unknown:
        # Left out in silence it would be answered ENOSYS: a refusal not made, or a program that fails.
        raise ValueError(f"policy.toml: libseccomp does not know {', '.join(unknown)}")
    return {name: number for name, number in found.items() if number >= 0}


def listing(policy: Policy, arch: Any) -> str:
    """The first filter to be read: number, name and answer of every call that ``arch`` has and the policy names."""
    answers = (("allow", policy.allow), ("EPERM", policy.deny), ("ENOSYS", policy.absent))
    lines = sorted((number, name, answer) for answer, names in answers for name, number in resolve(names, arch).items())
    head = "# Generated from policy.toml. A call that is not here answers ENOSYS; one of another architecture kills.\n"
    return head + "".join(f"{number} {name} {answer}\n" for number, name, answer in lines)


def second(policy: Policy, arch: Any) -> Any:
    """Filter B: arguments. What A lets through is refused where it would reach too far."""
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    _only(made, arch)
    refuse = seccomp.ERRNO(errno.EPERM)
    for request in policy.ioctls:
        # The kernel looks at 32 bits of the request: the others are masked away, or they would hide it.
        made.add_rule(refuse, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, LOW_32, request))
    for call in ("socket", "socketpair"):
        for family in range(64):
            if family not in policy.families:
                made.add_rule(refuse, call, seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32, family))
        made.add_rule(refuse, call, seccomp.Arg(0, seccomp.GE, 64))
        for families, protocols in ((INET, policy.inet_protocols), (NETLINK, policy.netlink_protocols)):
            for family in families:
                of_family = seccomp.Arg(0, seccomp.MASKED_EQ, LOW_32, family)
                for protocol in range(64):
                    if protocol not in protocols:
                        made.add_rule(refuse, call, of_family, seccomp.Arg(2, seccomp.MASKED_EQ, LOW_32, protocol))
                made.add_rule(refuse, call, of_family, seccomp.Arg(2, seccomp.GE, 64))
    for flag in policy.namespaces:
        made.add_rule(refuse, "clone", seccomp.Arg(CLONE_ARGUMENT, seccomp.MASKED_EQ, flag, flag))
    return made


def _only(made: Any, arch: Any) -> None:
    """One architecture; a call made through another one kills."""
    if arch != seccomp.system_arch():
        made.add_arch(arch)
        made.remove_arch(seccomp.system_arch())
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)


def program(made: Any) -> bytes:
    """The program as the kernel takes it: 8 bytes an instruction."""
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0, os.SEEK_SET)
        return file.read()


def main() -> None:
    """Write all programs."""
    policy = load()
    for name, arch in ARCHITECTURES.items():
        for letter, make in (("a", first), ("b", second)):
            (FILTERS / f"{letter}-{name}.bpf").write_bytes(program(make(policy, arch)))
        (FILTERS / f"a-{name}.txt").write_text(listing(policy, arch), encoding="utf-8")


if __name__ == "__main__":
    main()
