"""Security 3.5 and 3.6: every system call, made for real inside a sandbox, answers as the policy says."""

import asyncio
import errno
import platform
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyseccomp
import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from tests.fakes.sandboxed import EVERY, LAUNCH_UID, USR, reachable, shell, workspace_tenant
from tests.house import generate_filters

NUMBERS = 600
SOURCE = Path(__file__).resolve().parents[1] / "fakes" / "probe_syscalls.c"
POLICY = generate_filters.load()
ARCH = generate_filters.ARCHITECTURES[platform.machine()]
PAST_SECCOMP = {"335", "336"} if platform.machine() == "x86_64" else set()
"""uretprobe and uprobe, which newer kernels take past every filter; they do nothing for who is not being traced."""
Answers = dict[str, str]


def read(text: str) -> Answers:
    return dict(line.split(" ", 1) for line in text.splitlines())


@pytest.fixture(scope="module", params=EVERY)
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Answers, Answers]]:
    """What the calls answer inside a sandbox, and outside of one as the same uid."""
    with reachable() as state:
        tenant = workspace_tenant(state)
        workspace = state / "tenants" / "acme" / "sandbox"
        program = workspace / "probe"
        subprocess.run(["gcc", "-static", "-O1", "-w", "-o", str(program), str(SOURCE)], check=True)
        program.chmod(0o755)
        workspace.chmod(0o755)

        async def inside() -> str:
            runner: BwrapSandbox = request.param(launch_uid=LAUNCH_UID)
            limits = SandboxConfig(wall_seconds=110.0, cpu_seconds=100)
            try:
                done = await runner.run(tenant, Job((USR.shell, "-c", f"exec /workspace/probe {NUMBERS}"), limits, USR))
            finally:
                await runner.close()
            assert done.exit_code == 0, (done, done.stderr)
            return done.stdout.decode()

        outside = subprocess.run(
            [str(program), str(NUMBERS)], capture_output=True, text=True, timeout=110, check=True, cwd=workspace,
            user=LAUNCH_UID, group=LAUNCH_UID, extra_groups=[] if LAUNCH_UID else None, start_new_session=True,
        )  # fmt: skip
        yield read(asyncio.run(inside())), read(outside.stdout)
        tenant.root.close()


def numbers(names: frozenset[str]) -> dict[str, str]:
    found = {name: pyseccomp.resolve_syscall(ARCH, name) for name in names}
    return {str(number): name for name, number in found.items() if 0 <= number < NUMBERS}


def test_S3_05_what_is_denied_answers_eperm(both: tuple[Answers, Answers]) -> None:
    inside, _ = both
    wrong = {name: inside[n] for n, name in numbers(POLICY.deny).items() if inside[n] != f"errno {errno.EPERM}"}
    assert wrong == {}


def test_S3_05_what_is_not_listed_is_not_there(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    listed = {**numbers(POLICY.allow), **numbers(POLICY.deny)}
    for number in PAST_SECCOMP & inside.keys():
        assert inside[number] == outside[number] in (f"errno {errno.ENOSYS}", f"errno {errno.ENXIO}", "signal 4")
        del inside[number]
    wrong = {n: inside[n] for n in inside if n.isdigit() and n not in listed and inside[n] != f"errno {errno.ENOSYS}"}
    assert wrong == {}
    clone3 = str(pyseccomp.resolve_syscall(ARCH, "clone3"))
    assert inside[clone3] == f"errno {errno.ENOSYS}"


def test_S3_05_what_is_allowed_reaches_the_kernel(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    absent = f"errno {errno.ENOSYS}"
    lost = {
        name: inside[n] for n, name in numbers(POLICY.allow).items() if inside[n] == absent and outside[n] != absent
    }
    assert lost == {}
    refused = f"errno {errno.EPERM}"
    kept = {name for n, name in numbers(POLICY.allow).items() if inside[n] == refused != outside[n]}
    assert kept <= {"clone", "socket", "socketpair"}, "the second filter judges -1 as flags and as a family"
    assert sum(outside[n] != absent for n in numbers(POLICY.allow)) > 200


def test_S3_05_sockets_of_four_families_and_one_netlink(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    refused = f"errno {errno.EPERM}"
    assert {f for f in range(64) if inside[f"family-{f}"] != refused} == set(POLICY.families)
    assert (inside["family-1"], inside["family-2"], inside["netlink-0"]) == ("ok", "ok", "ok")
    assert inside["netlink-15"] == refused
    assert outside["netlink-15"] == "ok"
    assert inside[f"family-{socket.AF_VSOCK}"] == inside[f"family-{socket.AF_ALG}"] == refused


def test_S3_05_no_protocol_that_the_kernel_would_load_a_module_for(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    assert (inside["sctp"], inside["dccp6"]) == (f"errno {errno.EPERM}", f"errno {errno.EPERM}")
    assert inside["tcp"] == outside["tcp"] == "ok"
    assert outside["sctp"] != f"errno {errno.EPERM}", "outside, the kernel itself answers"


def test_S3_05_no_namespace_by_clone_and_no_keys_for_another(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    refused = f"errno {errno.EPERM}"
    for name in ("clone-newuser", "clone-newnet", "tiocsti", "tiocsti-high", "tioclinux"):
        assert inside[name] == refused, name
    assert (inside["clone-plain"], outside["clone-plain"]) == ("ok", "ok")
    assert outside["clone-newuser"] == "ok", "where no filter is, it is had"
    for name in ("tiocsti", "tiocsti-high", "tcgets"):
        assert outside[name] == f"errno {errno.EBADF}"
    assert inside["tcgets"] == f"errno {errno.EBADF}", "a terminal may be asked what it is"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has other ways in")
def test_S3_05_another_way_into_the_kernel_kills(both: tuple[Answers, Answers]) -> None:
    inside, outside = both
    assert inside["legacy-getpid"] == f"signal {signal.SIGSYS}"
    assert inside["x32-getpid"] == inside["x32-execve"] == f"signal {signal.SIGSYS}"
    assert outside["x32-getpid"] in ("ok", f"errno {errno.ENOSYS}"), "not every kernel has it, and none kills for it"
    assert outside["legacy-getpid"] in ("ok", f"signal {signal.SIGSEGV}"), "where the kernel has it, it is open"


PYTHON = """
import asyncio, concurrent.futures, multiprocessing, socket, subprocess, threading
left, right = socket.socketpair()
worker = threading.Thread(target=lambda: right.sendall(b"thread"))
worker.start(); worker.join()
assert left.recv(6) == b"thread"
assert subprocess.run(["cat"], input=b"child", capture_output=True, check=True).stdout == b"child"
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert sum(pool.map(abs, range(-4, 0))) == 10
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
async def both():
    server = await asyncio.start_server(lambda r, w: (w.write(b"loop"), w.close()), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    child = await asyncio.create_subprocess_exec("true")
    assert (await reader.read(), await child.wait()) == (b"loop", 0)
    writer.close(); server.close()
asyncio.run(asyncio.wait_for(both(), 100))
print("done")
"""
NODE = """
const {Worker} = require("worker_threads");
require("fs").promises.readFile("/etc/hosts").then(() =>
  new Worker("require('worker_threads').parentPort.postMessage(require('child_process').execSync('echo done'))",
    {eval: true}).on("message", (text) => process.stdout.write(Buffer.from(text))));
"""
GIT = """
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b.c GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b.c
git init -q r && cd r && echo text > file && git add file && git commit -q -m first && git gc -q
git clone -q . ../copy && cd ../copy && git fsck --strict && git log --format=tformat:done
"""
PROGRAMS = {
    "bash": "read -r first < <(printf 'done\\n' | cat); sleep 0 & wait $! && trap 'echo $first' EXIT; (exit 0)",
    "python3": f"python3 - <<'END'\n{PYTHON}\nEND",
    "node": f"node -e {shlex.quote(NODE)}",
    "git": GIT,
    "jq": 'jq -rn \'[range(3)] | if add == 3 then "done" else "wrong" end\'',
    "rg": "mkdir many && for n in {1..40}; do echo done > many/$n; done && rg -j 4 --no-filename done many | sort -u",
}


@pytest.mark.parametrize("program", sorted(PROGRAMS))
async def test_S3_05_twin_what_people_work_with_runs_under_both(program: str) -> None:
    if shutil.which(program, path=USR.search_path) is None:
        pytest.skip(f"the host has no {program}")
    with reachable() as state:
        tenant, runner = workspace_tenant(state), BwrapSandbox(launch_uid=LAUNCH_UID)
        try:
            loaded = await runner.run(tenant, shell("grep Seccomp_filters /proc/self/status"))
            done = await runner.run(tenant, shell(PROGRAMS[program], memory_bytes=4 << 30))
        finally:
            await runner.close()
            tenant.root.close()
        assert loaded.stdout.split()[1:] == [str(inherited() + 2).encode()]
        assert (done.exit_code, done.stdout) == (0, b"done\n"), (done.stdout, done.stderr)


def inherited() -> int:
    """How many filters the tests themselves run under, in a container say."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Seccomp_filters"))
