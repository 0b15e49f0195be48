"""The committed programs do what the policy says: each is run, instruction by instruction, for every call."""

import dataclasses
import errno
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox import seccomp
from carrel.sandbox.protocol import KILLED
from tests.house import generate_filters

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS = ERRNO | errno.EPERM, ERRNO | errno.ENOSYS
X32 = 0x40000000
BY_ARGUMENT = frozenset({"socket", "socketpair", "ioctl", "clone"})
POLICY = generate_filters.load()


def instructions(program: bytes) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<HBBI", program))


def verdict(program: list[tuple[int, int, int, int]], arch: int, number: int, *args: int) -> int:
    """Classic BPF over `struct seccomp_data`: the part of it that libseccomp writes."""
    data = struct.pack("<iIQ6Q", number - (1 << 32 if number >= 1 << 31 else 0), arch, 0, *args, *[0] * (6 - len(args)))
    at = value = 0
    while True:
        code, yes, no, k = program[at]
        at += 1
        match code:
            case 0x20:
                value = int.from_bytes(data[k : k + 4], "little")
            case 0x54:
                value &= k
            case 0x05:
                at += k
            case 0x06:
                return k
            case 0x15 | 0x25 | 0x35 | 0x45:
                holds = {0x15: value == k, 0x25: value > k, 0x35: value >= k, 0x45: bool(value & k)}[code]
                at += yes if holds else no
            case _:
                raise AssertionError(f"an instruction that this does not know: {code:#x}")


@pytest.fixture(params=sorted(generate_filters.ARCHITECTURES))
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def numbers(arch: str, names: frozenset[str]) -> Iterator[tuple[str, int]]:
    for name in sorted(names):
        number = pyseccomp.resolve_syscall(generate_filters.ARCHITECTURES[arch], name)
        if number >= 0:
            yield name, number


def test_every_call_is_answered_as_the_policy_says(arch: str) -> None:
    program = instructions(seccomp.filters(arch)[0])
    allowed, denied = dict(numbers(arch, POLICY.allow)), dict(numbers(arch, POLICY.deny))
    wanted = dict.fromkeys(allowed.values(), ALLOW) | dict.fromkeys(denied.values(), EPERM)
    wrong = [n for n in range(1024) if verdict(program, AUDIT[arch], n) != wanted.get(n, ENOSYS)]
    assert wrong == []
    assert len(allowed) > 200
    assert len(denied) > 40


def test_the_second_filter_lets_all_calls_through_but_for_their_arguments(arch: str) -> None:
    program = instructions(seccomp.filters(arch)[1])
    special = dict(numbers(arch, BY_ARGUMENT)).values()
    assert {verdict(program, AUDIT[arch], n) for n in range(1024) if n not in special} == {ALLOW}


def test_another_architecture_kills(arch: str) -> None:
    for program in map(instructions, seccomp.filters(arch)):
        for other in (0x40000003, *(value for name, value in AUDIT.items() if name != arch)):
            assert verdict(program, other, 0) == KILL
        if arch == "x86_64":
            for number in (X32, X32 | 39, X32 | 520, X32 | 0x3FFFFFFF, 1 << 31, 0xFFFF_FFFE):
                assert verdict(program, AUDIT[arch], number) == KILL


def test_sockets_are_of_four_families(arch: str) -> None:
    program = instructions(seccomp.filters(arch)[1])
    for _, call in numbers(arch, frozenset({"socket", "socketpair"})):
        through = {f for f in range(64) if verdict(program, AUDIT[arch], call, f, 1, 0) == ALLOW}
        assert through == set(POLICY.families)
        assert {verdict(program, AUDIT[arch], call, f, 1, 0) for f in (64, 1 << 31, (1 << 32) + 40)} == {EPERM}
        assert [p for p in range(64) if verdict(program, AUDIT[arch], call, 16, 3, p) == ALLOW] == [0]
        for family in (2, 10):
            answers = {
                p: verdict(program, AUDIT[arch], call, family, 1, p) for p in (*range(64), 132, 262, (1 << 32) + 6)
            }
            assert {p for p, answer in answers.items() if answer == ALLOW} == set(POLICY.inet_protocols)


def test_a_modes_own_filter_refuses_what_it_names_and_nothing_else(arch: str) -> None:
    refused = frozenset({"socket", "symlink", "symlinkat", "fork"})
    program = instructions(seccomp.denying(dict.fromkeys(refused, errno.EPERM), arch))
    named = dict(numbers(arch, refused)).values()
    assert {verdict(program, AUDIT[arch], n) for n in named} == {EPERM}
    assert {verdict(program, AUDIT[arch], n) for n in range(1024) if n not in named} == {ALLOW}
    every = instructions(seccomp.denying(dict.fromkeys(POLICY.allow, errno.EPERM), arch))
    assert {verdict(every, AUDIT[arch], n) for n in dict(numbers(arch, POLICY.allow)).values()} == {EPERM}


def test_keys_cannot_be_pressed_for_another_whatever_the_upper_half_says(arch: str) -> None:
    program = instructions(seccomp.filters(arch)[1])
    ((_, ioctl),) = numbers(arch, frozenset({"ioctl"}))
    for request in POLICY.ioctls:
        assert verdict(program, AUDIT[arch], ioctl, 0, request) == EPERM
        assert verdict(program, AUDIT[arch], ioctl, 0, request | 1 << 32) == EPERM
    assert verdict(program, AUDIT[arch], ioctl, 0, 0x5401) == ALLOW


def test_a_new_process_has_no_new_namespace(arch: str) -> None:
    program = instructions(seccomp.filters(arch)[1])
    ((_, clone),) = numbers(arch, frozenset({"clone"}))
    for flag in POLICY.namespaces:
        assert verdict(program, AUDIT[arch], clone, flag | 17) == EPERM
    assert verdict(program, AUDIT[arch], clone, 0x3D0F00) == ALLOW
    assert verdict(program, AUDIT[arch], clone, 17) == ALLOW


def questions(arch: str) -> Iterator[tuple[int, ...]]:
    """Every call, and those that are judged by their arguments with all that could tell two programs apart."""
    yield from ((number,) for number in range(1024))
    call = dict(numbers(arch, BY_ARGUMENT))
    for high in (0, 1 << 31, 1 << 32, 1 << 63):
        for name in ("socket", "socketpair"):
            yield from ((call[name], high | family, 1, 0) for family in range(80))
            yield from ((call[name], 16, 3, high | protocol) for protocol in range(80))
        yield from ((call["ioctl"], 0, high | request) for request in range(0x5400, 0x5480))
    for bit in range(64):
        yield from ((call["clone"], 1 << bit), (call["clone"], 1 << bit | 17), (call["clone"], 0x3D0F00 | 1 << bit))


def differing(arch: str, policy: generate_filters.Policy) -> list[tuple[int, ...]]:
    """The questions that the committed programs answer otherwise than what ``policy`` makes."""
    found = []
    for make, committed in zip((generate_filters.first, generate_filters.second), seccomp.filters(arch), strict=True):
        ours = instructions(committed)
        theirs = instructions(generate_filters.program(make(policy, generate_filters.ARCHITECTURES[arch])))
        if ours != theirs:
            found += [q for q in questions(arch) if verdict(ours, AUDIT[arch], *q) != verdict(theirs, AUDIT[arch], *q)]
    return found


def test_what_is_committed_is_what_is_generated(arch: str) -> None:
    """By its answers: another libseccomp than the one that wrote the files may order the instructions otherwise."""
    assert differing(arch, POLICY) == []


@pytest.mark.parametrize(
    ("changed", "call"),
    [
        ({"allow": POLICY.allow - {"read"}}, "read"),
        ({"deny": POLICY.deny - {"ptrace"}}, "ptrace"),
        ({"families": (40, *POLICY.families)}, "socket"),
        ({"netlink_protocols": (0, 15)}, "socketpair"),
        ({"ioctls": POLICY.ioctls[:1]}, "ioctl"),
        ({"namespaces": POLICY.namespaces[1:]}, "clone"),
    ],
)
def test_a_policy_changed_without_its_programs_is_seen(arch: str, changed: dict[str, Any], call: str) -> None:
    found = differing(arch, dataclasses.replace(POLICY, **changed))
    assert dict(numbers(arch, frozenset({call})))[call] in {q[0] for q in found}


def test_the_text_says_what_the_program_does(arch: str) -> None:
    text = (seccomp.FOLDER / f"a-{arch}.txt").read_text()
    assert text == generate_filters.listing(POLICY, generate_filters.ARCHITECTURES[arch])
    program = instructions(seccomp.filters(arch)[0])
    answers = {"allow": ALLOW, "EPERM": EPERM, "ENOSYS": ENOSYS}
    told = [line.split() for line in text.splitlines()[1:]]
    assert [line for line in told if verdict(program, AUDIT[arch], int(line[0])) != answers[line[2]]] == []
    assert {"clone3 ENOSYS", "ptrace EPERM", "read allow"} <= {" ".join(line[1:]) for line in told}


def test_a_name_in_two_lists_is_refused() -> None:
    text = (seccomp.FOLDER / "policy.toml").read_text()
    twice = text.replace("[deny]\n", '[deny]\nonce_more = ["read"]\n')
    assert generate_filters.load(text) == POLICY
    with pytest.raises(ValueError, match="read is in allow and in deny"):
        generate_filters.load(twice)


@pytest.mark.parametrize("list_", ["allow", "deny", "absent"])
def test_a_name_that_no_architecture_has_is_refused(arch: str, list_: str) -> None:
    text = (seccomp.FOLDER / "policy.toml").read_text()
    policy = generate_filters.load(text.replace(f"[{list_}]\n", f'[{list_}]\nwrong = ["ptrase"]\n'))
    with pytest.raises(ValueError, match="does not know ptrase"):
        generate_filters.first(policy, generate_filters.ARCHITECTURES[arch])


def test_the_programs_are_in_what_is_installed(tmp_path: Path) -> None:
    project = Path(__file__).resolve().parents[3] / "python"
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=project, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name in generate_filters.ARCHITECTURES:
            found = tuple(packed.read(f"carrel/sandbox/filters/{letter}-{name}.bpf") for letter in "ab")
            assert found == seccomp.filters(name)


@pytest.mark.parametrize("content", [None, b"", b"1234567"])
def test_filters_that_are_damaged_are_refused(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = seccomp.filters("x86_64")
    monkeypatch.setattr(seccomp, "FOLDER", tmp_path)
    (tmp_path / "a-x86_64.bpf").write_bytes(first)
    if content is not None:
        (tmp_path / "b-x86_64.bpf").write_bytes(content)
    with pytest.raises(SandboxUnavailable, match="damaged"):
        seccomp.filters("x86_64")
    (tmp_path / "b-x86_64.bpf").write_bytes(second)
    assert seccomp.filters("x86_64") == (first, second)


def test_an_architecture_without_filters_is_refused() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        seccomp.filters("riscv64")


def test_what_is_stacked_answers_as_it_is_told(arch: str) -> None:
    program = instructions(seccomp.denying({"linkat": errno.ENOSYS, "symlinkat": KILLED, "no_such": 1}, arch))
    number = dict(numbers(arch, frozenset({"linkat", "symlinkat", "read"})))
    assert [verdict(program, AUDIT[arch], number[name]) for name in ("linkat", "symlinkat", "read")] == [
        ENOSYS, KILL, ALLOW,
    ]  # fmt: skip
