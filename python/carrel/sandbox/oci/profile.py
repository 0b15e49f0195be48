"""The seccomp policy in the form that OCI runtimes take: pure, from the same ``policy.toml`` as the two programs.

An OCI profile is one filter, in which a call has no rules that contradict each other. So where an argument decides,
what is let through and what is refused are written as two sets of values that do not meet.
"""

import errno
import platform
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from carrel.errors import SandboxUnavailable
from carrel.sandbox.protocol import KILLED
from carrel.sandbox.seccomp import FOLDER

Rule = dict[str, Any]
Prefix = tuple[int, int]
"""Values whose bits under the mask (first) are the second."""

_BITS: Final = 32
_ALL: Final = (1 << _BITS) - 1
_INET: Final = (2, 10)
_NETLINK: Final = 16
_ARCHITECTURES: Final = {
    "x86_64": "SCMP_ARCH_X86_64", "amd64": "SCMP_ARCH_X86_64",
    "aarch64": "SCMP_ARCH_AARCH64", "arm64": "SCMP_ARCH_AARCH64",
}  # fmt: skip
_ALLOWED: Final = "SCMP_ACT_ALLOW"
_BY_ARGUMENT: Final = ("clone", "ioctl", "socket", "socketpair")


def profile(refusals: Mapping[str, int] | None = None, *, machine: str | None = None) -> dict[str, Any]:
    """``linux.seccomp`` of a bundle; ``refusals`` (errno or KILLED by call) come beside what the policy refuses.

    They concern what the policy lets through, alone: what it refuses keeps its answer.
    """
    denied = {call: answer for call, answer in (refusals or {}).items() if call in calls()}
    architecture = _architecture(machine)
    policy = _policy()
    allowed = sorted(_names(policy["allow"]) - set(denied) - set(_BY_ARGUMENT))
    refused, absent = _names(policy["deny"]), _names(policy["absent"])
    rules = [_rule(allowed)]
    for answer in sorted({errno.EPERM, errno.ENOSYS, *denied.values()}):
        own = {errno.EPERM: refused, errno.ENOSYS: absent}.get(answer, set())
        names = sorted(own | {call for call, wanted in denied.items() if wanted == answer})
        rules.append(_rule(names, answer))
    for call in _BY_ARGUMENT:
        if call not in denied:
            rules += _judged(call, policy["second"])
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.ENOSYS,
        "architectures": [architecture],
        "syscalls": rules,
    }


def denials(refusals: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The same for a kernel that is not the host's: what it lets through reaches none but its own processes.

    So what is refused is all that is said; its programs are too short for the whole list.
    """
    policy = _policy()
    answers = dict.fromkeys(_names(policy["deny"]), errno.EPERM)
    answers |= {call: answer for call, answer in (refusals or {}).items() if call in calls()}
    rules = [
        _rule(sorted(call for call, wanted in answers.items() if wanted == answer), answer)
        for answer in sorted(set(answers.values()))
    ]
    for call in _BY_ARGUMENT:
        if call not in answers:
            rules += [rule for rule in _judged(call, policy["second"]) if rule["action"] != _ALLOWED]
    return {"defaultAction": _ALLOWED, "architectures": [_architecture()], "syscalls": rules}


def calls() -> frozenset[str]:
    """Every call that the policy lets through: those that can be denied besides."""
    return frozenset(_names(_policy()["allow"]))


def _architecture(machine: str | None = None) -> str:
    name = (machine or platform.machine()).lower()
    if name not in _ARCHITECTURES:
        raise SandboxUnavailable(f"There are no seccomp filters for {name}: the sandbox runs on aarch64 and x86_64.")
    return _ARCHITECTURES[name]


@cache
def _policy() -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - for this one file

    return tomllib.loads((FOLDER / "policy.toml").read_text(encoding="utf-8"))


def _names(groups: dict[str, list[str]]) -> set[str]:
    return {name for group in groups.values() for name in group}


def _judged(call: str, second: dict[str, Any]) -> Iterator[Rule]:
    """The rules of a call of which an argument decides."""
    if call == "clone":
        every = 0
        for flag in second["namespaces"]:
            every |= flag
            yield _rule([call], errno.EPERM, [(0, (flag, flag))])
        yield _rule([call], arguments=[(0, (every, 0))])
    elif call == "ioctl":
        for value in second["ioctls"]:
            yield _rule([call], errno.EPERM, [(1, (_ALL, value))])
        for others in complement(second["ioctls"]):
            yield _rule([call], arguments=[(1, others)])
    else:
        yield from _sockets(call, second)


def _sockets(call: str, second: dict[str, Any]) -> Iterator[Rule]:
    for others in complement(second["families"]):
        yield _rule([call], errno.EPERM, [(0, others)])
    for family in second["families"]:
        of_it = (0, (_ALL, family))
        protocols = second["inet_protocols"] if family in _INET else second["netlink_protocols"]
        if family not in (*_INET, _NETLINK):
            yield _rule([call], arguments=[of_it])
            continue
        for protocol in protocols:
            yield _rule([call], arguments=[of_it, (2, (_ALL, protocol))])
        for others in complement(protocols):
            yield _rule([call], errno.EPERM, [of_it, (2, others)])


def complement(values: Iterable[int]) -> list[Prefix]:
    """All 32-bit values but ``values``, as few prefixes."""
    found: list[Prefix] = []

    def split(bits: int, value: int, within: frozenset[int]) -> None:
        mask = _ALL ^ ((1 << (_BITS - bits)) - 1)
        if not within:
            found.append((mask, value))
        elif bits < _BITS:
            half = 1 << (_BITS - bits - 1)
            split(bits + 1, value, frozenset(one for one in within if not one & half))
            split(bits + 1, value | half, frozenset(one for one in within if one & half))

    split(0, 0, frozenset(values))
    return found


def _rule(names: Collection[str], refusal: int | None = None, arguments: Iterable[tuple[int, Prefix]] = ()) -> Rule:
    rule: Rule = {"names": list(names), "action": _ALLOWED}
    if refusal == KILLED:
        rule["action"] = "SCMP_ACT_KILL_PROCESS"
    elif refusal is not None:
        rule |= {"action": "SCMP_ACT_ERRNO", "errnoRet": refusal}
    compared = [
        {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
        for index, (mask, value) in arguments
    ]
    return rule | ({"args": compared} if compared else {})
