"""The profile says what the two programs say: real runtimes are held to that, call by call, in tests/security."""

import errno
import random

import pytest

from carrel.declare import modes
from carrel.errors import SandboxUnavailable
from carrel.sandbox.oci.profile import Rule, calls, complement, profile
from carrel.sandbox.protocol import KILLED
from tests.house import generate_filters

POLICY = generate_filters.load()
ALL = (1 << 32) - 1


def of(rules: list[Rule], call: str) -> list[Rule]:
    return [rule for rule in rules if call in rule["names"]]


def answer(rules: list[Rule], call: str, *arguments: int) -> int | None:
    """0 where the call is let through, else its error; no two rules may speak of the same arguments."""
    told = {
        0 if rule["action"] == "SCMP_ACT_ALLOW" else rule["errnoRet"]
        for rule in of(rules, call)
        if all(arguments[test["index"]] & test["value"] == test["valueTwo"] for test in rule.get("args", ()))
    }
    assert len(told) <= 1, (call, arguments, told)
    return told.pop() if told else None


def test_each_call_has_the_policys_answer_and_the_default_is_that_it_is_not_there() -> None:
    made = profile(machine="x86_64")
    assert (made["defaultAction"], made["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.ENOSYS)
    assert made["architectures"] == ["SCMP_ARCH_X86_64"]
    rules = made["syscalls"]
    by_argument = {"clone", "ioctl", "socket", "socketpair"}
    assert {answer(rules, call) for call in POLICY.allow - by_argument} == {0}
    assert {answer(rules, call) for call in POLICY.deny} == {errno.EPERM}
    assert {answer(rules, call) for call in POLICY.absent} == {errno.ENOSYS}
    assert answer(rules, "no_such_call") is None


def test_what_an_argument_decides() -> None:
    rules = profile(machine="aarch64")["syscalls"]
    for family in [*range(64), ALL]:
        allowed = family in POLICY.families
        assert answer(rules, "socket", family, 1, 0) == (0 if allowed else errno.EPERM)
    assert answer(rules, "socket", 16, 3, 15) == errno.EPERM
    assert answer(rules, "socket", 2, 3, 6) == answer(rules, "socketpair", 1, 1, 77) == 0
    assert answer(rules, "socket", 2, 3, 132) == errno.EPERM
    for request in (0x5412, 0x541C):
        assert answer(rules, "ioctl", 0, request) == answer(rules, "ioctl", 0, request | 1 << 32) == errno.EPERM
        assert answer(rules, "ioctl", 0, request + 1) == 0
    for flag in POLICY.namespaces:
        assert answer(rules, "clone", flag | 17) == errno.EPERM
    assert answer(rules, "clone", 0x1200011) == 0


def test_a_mode_refuses_besides_and_nothing_is_let_through_for_it() -> None:
    before, after = (
        profile(dict.fromkeys(denied, errno.EPERM), machine="x86_64")["syscalls"]
        for denied in ((), ("socket", "symlink"))
    )
    assert answer(after, "socket", 1, 1, 0) == answer(after, "symlink") == errno.EPERM
    assert answer(before, "symlink") == 0
    for call in POLICY.allow - {"socket", "symlink"}:
        assert of(before, call)[0].get("args") == of(after, call)[0].get("args")
    assert answer(after, "mount") == errno.EPERM


def test_what_declarations_know_is_what_the_policy_lets_through() -> None:
    assert calls() == modes.CALLS


def test_the_complement_is_all_other_values_and_no_more_prefixes_than_bits() -> None:
    values = [0x5412, 0x541C]
    others = complement(values)
    assert len(others) <= 64
    chance = random.Random(7)  # noqa: S311 - values to try
    for value in [*values, 0, ALL, *(chance.getrandbits(32) for _ in range(500)), *range(0x5400, 0x5430)]:
        assert sum(value & mask == prefix for mask, prefix in others) == (value not in values)
    assert complement([]) == [(0, 0)]


def test_an_architecture_without_filters_has_no_profile() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        profile(machine="riscv64")


def test_a_mode_says_how_it_refuses_and_only_of_what_is_let_through() -> None:
    wanted = {"symlink": errno.ENOSYS, "link": KILLED, "socket": errno.EACCES, "mount": KILLED, "clone3": errno.EPERM}
    rules = profile(wanted, machine="x86_64")["syscalls"]
    assert (answer(rules, "symlink"), answer(rules, "socket", 1, 1, 0)) == (errno.ENOSYS, errno.EACCES)
    assert [rule["action"] for rule in of(rules, "link")] == ["SCMP_ACT_KILL_PROCESS"]
    assert (answer(rules, "mount"), answer(rules, "clone3")) == (errno.EPERM, errno.ENOSYS)
