"""What every runner of sandboxes promises: bubblewrap, a worker, containers by crun, runc, podman, a kept one, a fake.

What a sandbox keeps apart is in tests/security; here is what a command sees of its limits and its end.
"""

import asyncio
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from carrel.errors import SandboxUnavailable, UnsafePath
from carrel.sandbox import probe
from carrel.sandbox.protocol import Confinement, Sandbox
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Mount
from tests.fakes.mounts import mounts
from tests.fakes.patience import PATIENCE, eventually, soon
from tests.fakes.sandbox import FakeSandbox
from tests.fakes.sandboxed import (
    EVERY,
    LAUNCH_UID,
    USR,
    InContainer,
    InKeptContainer,
    InPodman,
    InRuncContainer,
    InWorker,
    reachable,
    shell,
    workspace_tenant,
)

REAL = [way for way in EVERY if way not in (InWorker, InKeptContainer)]


@pytest.fixture(params=[FakeSandbox, *EVERY])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    made: Sandbox = FakeSandbox() if request.param is FakeSandbox else request.param(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture(params=REAL)
async def real(request: pytest.FixtureRequest) -> AsyncIterator[BwrapSandbox]:
    made: BwrapSandbox = request.param(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()


FORKS = """
import os, time
try:
    for _ in range(8):
        if os.fork() == 0:
            time.sleep(600)
except BlockingIOError:
    print("refused")
"""


def running(mark: str) -> list[str]:
    """Command lines of processes that have ``mark`` in them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in found if mark in line]


async def test_output_codes_and_signals(runner: Sandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("cat; echo err >&2; exit 3", stdin=b"fed"))
    assert (done.exit_code, done.signal, done.stdout, done.stderr, done.killed) == (3, None, b"fed", b"err\n", None)
    done = await runner.run(tenant, shell("kill -SEGV $$"))
    assert (done.exit_code, done.signal) == (None, 11)


async def test_the_workspace_is_kept_and_nothing_else(real: BwrapSandbox, tenant: Tenant) -> None:
    await real.run(tenant, shell("echo kept > file; echo gone > /tmp/file"))
    done = await real.run(tenant, shell("cat file; cat /tmp/file"))
    assert (done.stdout, done.exit_code) == (b"kept\n", 1)


async def test_a_limit_of_output_keeps_so_much(runner: Sandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("seq 1 1000", output_bytes=100))
    assert (len(done.stdout), done.output_dropped, done.exit_code) == (100, 3893 - 100, 0)


async def test_a_flood_of_output_is_ended(real: BwrapSandbox, tenant: Tenant) -> None:
    done = await real.run(tenant, shell("yes", output_bytes=100))
    assert (done.killed, len(done.stdout)) == ("output", 100)


async def test_a_limit_of_time_kills(runner: Sandbox, tenant: Tenant) -> None:
    done = await runner.run(tenant, shell("(sleep 600 & sleep 600); echo late", wall_seconds=0.5))
    assert (done.killed, done.stdout) == ("wall_clock", b"")


async def test_a_limit_of_time_kills_the_whole_tree(real: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.5150"
    command = f"(setsid sh -c 'sleep {mark} & wait' & ) ; (sleep {mark} &) ; sleep {mark}"
    done = await real.run(tenant, shell(command, wall_seconds=1.5))
    assert done.killed == "wall_clock"
    assert running(mark) == []


async def test_a_command_that_ends_takes_what_it_started_with_it(real: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.6160"
    done = await real.run(tenant, shell(f"setsid sleep {mark} > /dev/null 2>&1 & echo done"))
    assert (done.stdout, done.exit_code) == (b"done\n", 0)
    assert running(mark) == []


async def test_a_limit_of_processor_time_is_named(real: BwrapSandbox, tenant: Tenant) -> None:
    done = await real.run(tenant, shell("while :; do :; done", cpu_seconds=1))
    assert done.killed == "cpu"


async def test_memory_processes_files_and_their_size_are_limited(real: BwrapSandbox, tenant: Tenant) -> None:
    grow = "import sys\ntry: bytearray(300 << 20)\nexcept MemoryError: sys.exit(7)"
    assert (await real.run(tenant, shell(f"python3 -c '{grow}'", memory_bytes=200 << 20))).exit_code == 7
    assert (await real.run(tenant, shell(f"python3 -c '{grow}'", memory_bytes=500 << 20))).exit_code == 0
    fork = "for i in 1 2 3 4 5 6 7 8; do sleep 0.2 & done 2>/tmp/e; wait; grep -c fork /tmp/e"
    assert b"refused" in (await real.run(tenant, shell(f"python3 -c '{FORKS}'", pids=4))).stdout
    assert (await real.run(tenant, shell(fork, pids=40))).stdout == b"0\n"
    assert (
        await real.run(tenant, shell("head -c 2000000 /dev/zero > f; stat -c %s f", file_size_bytes=1 << 20))
    ).stdout == b"1048576\n"
    opened = await real.run(
        tenant, shell('for i in $(seq 40); do eval "exec $((i+10))</dev/null" || exit 9; done', open_files=32)
    )
    assert opened.exit_code != 0
    full = await real.run(tenant, shell("head -c 3000000 /dev/zero > /tmp/f; stat -c %s /tmp/f", tmp_bytes=1 << 20))
    assert full.stdout == b"1048576\n"


async def test_cancelling_kills_before_it_returns(runner: Sandbox, tenant: Tenant) -> None:
    mark, shown = f"{os.getpid()}.7170", asyncio.Event()
    loop = asyncio.get_running_loop()
    job = shell(f"echo begun; sleep {mark}")

    def show(piece: bytes) -> None:
        loop.call_soon_threadsafe(shown.set)

    task = asyncio.ensure_future(runner.run(tenant, job, on_output=show))
    await soon(shown.wait())
    assert running(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(mark) == []


async def test_a_lost_launcher_ends_what_ran_and_is_started_anew(real: BwrapSandbox, tenant: Tenant) -> None:
    mark = f"{os.getpid()}.8180"
    task = asyncio.ensure_future(real.run(tenant, shell(f"sleep {mark}; :")))
    await eventually(lambda: any(line.startswith(f"sleep {mark}") for line in running(mark)))
    pid = real._link.pid
    assert pid is not None
    os.kill(pid, 9)
    assert (await task).killed == "launcher_lost"
    await eventually(lambda: not running(mark))
    assert (await real.run(tenant, shell("echo again"))).stdout == b"again\n"


@pytest.mark.parametrize("way", REAL)
async def test_a_gateway_that_is_killed_leaves_nothing(tenant: Tenant, way: type[BwrapSandbox]) -> None:
    mark = f"{os.getpid()}.9390"
    state = Path(f"/proc/self/fd/{tenant.root.fd}").readlink().parent.parent
    code = f"""
import asyncio
from pathlib import Path
from tests.fakes import sandboxed
runner = sandboxed.{way.__name__}(launch_uid=sandboxed.LAUNCH_UID)
tenant = sandboxed.workspace_tenant(Path({str(state)!r}))
asyncio.run(runner.run(tenant, sandboxed.shell("sleep {mark}; :")))
"""
    repository = Path(__file__).resolve().parents[2]
    paths = f"{repository}:{repository / 'python'}"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}) as gateway:
        async with asyncio.timeout(PATIENCE):
            while not any(line.startswith(f"sleep {mark}") for line in running(mark)):
                assert gateway.poll() is None
                await asyncio.sleep(0.02)
        gateway.kill()
    await eventually(lambda: not running(mark))


async def test_what_cannot_be_given_whole_runs_nothing(real: BwrapSandbox, tenant: Tenant) -> None:
    job = shell("echo ran > /workspace/ran")
    broken = replace(job, userland=replace(USR, mounts=(*USR.mounts, Mount("/nowhere/at/all", "/x"))))
    with pytest.raises(SandboxUnavailable, match="/nowhere/at/all"):
        await real.run(tenant, broken)
    done = await real.run(tenant, shell("ls"))
    assert done.stdout == b""


class Greeting:
    """A gate that greets whoever comes."""

    def __init__(self, text: bytes) -> None:
        self.env = {"WAY": "127.0.0.1/3128"}
        self.files = {"ssl/certs/ca.crt": b"certificates"}
        self.text = text
        self.cancelled = asyncio.Event()

    async def prepare(self) -> None:
        """It is ready."""

    def follow(self, other: object, /, *, alone: bool) -> None:
        """It is for everybody."""

    async def serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        try:
            while True:
                connection, _ = await loop.sock_accept(listener)
                with connection:
                    await loop.sock_sendall(connection, self.text)
        finally:
            self.cancelled.set()


async def test_the_gate_is_all_that_is_reached_and_goes_with_the_command(real: BwrapSandbox, tenant: Tenant) -> None:
    one, two = Greeting(b"one"), Greeting(b"two")
    ask = shell("exec 3<>/dev/tcp/$WAY; cat <&3; cat /etc/ssl/certs/ca.crt")
    done = await asyncio.gather(
        real.run(tenant, replace(ask, gate=one)), real.run(tenant, replace(ask, gate=two)), real.run(tenant, ask)
    )
    assert [end.stdout for end in done] == [b"onecertificates", b"twocertificates", b""]
    await soon(asyncio.gather(one.cancelled.wait(), two.cancelled.wait()))


async def test_a_command_knows_its_environment_and_nothing_else(real: BwrapSandbox, tenant: Tenant) -> None:
    job = replace(shell("env; hostname; cat /etc/passwd; umask"), env={"MINE": "1", "LD_PRELOAD": "/workspace/x.so"})
    told = (await real.run(tenant, job)).stdout.decode().splitlines()
    names = {line.partition("=")[0] for line in told if "=" in line}
    assert names - {"PWD", "SHLVL", "_"} == {
        "HOME", "LANG", "LOGNAME", "MINE", "PATH", "SHELL", "TERM", "TMPDIR", "USER",
    }  # fmt: skip
    assert "sandbox" in told
    uid = getattr(real, "uid", 1000)
    assert f"agent:x:{uid}:{uid}:agent:/workspace:/bin/sh" in told


async def test_our_own_probe_finds_nothing_wrong(real: BwrapSandbox, tenant: Tenant) -> None:
    contained = isinstance(real, InContainer)
    expected = f"{getattr(real, 'uid', 1000)} {1 if contained else 2}"
    code = Path(probe.__file__).read_bytes()
    found = await real.run(tenant, shell(f"exec python3 -I -S -B - {expected}", stdin=code))
    assert json.loads(found.stdout) == []


@pytest.mark.parametrize("runner", EVERY, indirect=True)
async def test_a_mode_may_refuse_calls_besides(runner: Sandbox, tenant: Tenant) -> None:
    link = shell("ln -s here there && echo made; rm -f there; echo lives")
    refusing = replace(link, confinement=Confinement(deny_calls=("symlink", "symlinkat")))
    done = await runner.run(tenant, refusing)
    assert (done.stdout, b"Operation not permitted" in done.stderr) == (b"lives\n", True)
    assert (await runner.run(tenant, link)).stdout == b"made\nlives\n"


async def test_a_workspace_that_is_exchanged_meanwhile_is_never_left(real: BwrapSandbox, tenant: Tenant) -> None:
    root = Path(f"/proc/self/fd/{tenant.root.fd}").readlink()
    outside = root.parent.parent / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    (root / "other").symlink_to(outside)
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            exchanged(root / "sandbox", root / "other")

    thread = threading.Thread(target=exchange)
    thread.start()
    ran = 0
    try:
        for _ in range(12):
            try:
                ran += (await real.run(tenant, shell("echo x > mine"))).exit_code == 0
            except (SandboxUnavailable, UnsafePath):
                continue
    finally:
        stop.set()
        thread.join()
    assert list(outside.iterdir()) == []
    if (root / "sandbox").is_symlink():
        exchanged(root / "sandbox", root / "other")
    assert (await real.run(tenant, shell("echo x > mine; ls"))).stdout == b"mine\n"


def exchanged(one: Path, other: Path) -> None:
    """Let two names change places in one step."""
    libc = ctypes.CDLL(None)
    libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)


async def test_a_runtime_that_is_not_there_runs_nothing_by_another(tenant: Tenant) -> None:
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    job = shell("echo ran > ran; ls")
    with pytest.raises(SandboxUnavailable, match=r"'no-such-runtime' is not installed.*`runtime_class`"):
        await runner.run(tenant, replace(job, confinement=Confinement("oci", "no-such-runtime")))
    with pytest.raises(SandboxUnavailable):
        await runner.run(tenant, replace(job, confinement=Confinement("oci", "true")))
    assert (await runner.run(tenant, shell("ls"))).stdout == b""
    assert (await runner.run(tenant, replace(job, confinement=Confinement("oci", "crun")))).stdout == b"ran\n"
    await runner.close()


@pytest.mark.parametrize("way", [InContainer, InRuncContainer, InPodman])
async def test_a_container_is_kept_and_is_nobodys_whose_mode_is_another(tenant: Tenant, way: type[InContainer]) -> None:
    runner = way(launch_uid=LAUNCH_UID)
    mark = f"{os.getpid()}.4140"
    left = shell(f"setsid sleep {mark} > /dev/null 2>&1 & echo $! | tee /tmp/pid")
    done = await runner.run(tenant, replace(left, keep="main"))
    assert (done.exit_code, done.note, len(runner.kept())) == (0, "", 1)
    look = shell(f"test $(cat /tmp/pid) = {done.stdout.decode().strip()} && kill -0 $(cat /tmp/pid) && id -u")
    assert (await runner.run(tenant, replace(look, keep="main"))).stdout == f"{way.uid}\n".encode()
    # By bubblewrap the same name is another sandbox's: a mode's commands never run by less than it says.
    elsewhere = await BwrapSandbox.run(runner, tenant, replace(shell("cat /tmp/pid; id -u"), keep="main"))
    assert (elsewhere.stdout, len(runner.kept())) == (b"1000\n", 2)
    over = await runner.run(tenant, replace(shell("sleep 60; :", wall_seconds=1.0), keep="main"))
    assert over.killed == "wall_clock"
    assert (await runner.run(tenant, replace(look, keep="main"))).exit_code == 0, "what was there before lives"
    await runner.stop_tenant(tenant.id)
    assert (runner.kept(), running(mark)) == ((), [])
    await runner.close()


@pytest.mark.parametrize("engine", [None, "podman"])
async def test_a_runtime_is_whatever_program_the_operator_names(
    tenant: Tenant, engine: Literal["podman"] | None
) -> None:
    """By its path, under a name that nobody knows: it is asked what it is."""
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    crun = shutil.which("crun")
    assert crun is not None
    with tempfile.TemporaryDirectory(dir="/var/lib") as path:
        Path(path).chmod(0o755)
        hardened = Path(shutil.copy(crun, f"{path}/hardened-1.0"))
        confinement = Confinement("oci", str(hardened), ("symlinkat", "symlink"), engine)
        job = replace(shell("ln -s a b || echo $(id -u)"), confinement=confinement)
        done = await runner.run(tenant, job)
        assert done.stdout == b"0\n"
    await runner.close()


async def test_podman_calls_other_runtimes_too_and_only_those_that_are_there(tenant: Tenant) -> None:
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    job = shell("echo ran > ran; tr '\\0' ' ' < /proc/1/cmdline; id -u")
    by = partial(Confinement, "oci", engine="podman")
    with pytest.raises(SandboxUnavailable):
        await runner.run(tenant, replace(job, confinement=by("true")))
    assert (await runner.run(tenant, shell("ls"))).stdout == b""
    done = await runner.run(tenant, replace(job, confinement=by("runc")))
    assert done.stdout.endswith(b" 0\n"), done
    assert b"read -r n <&6" in done.stdout, "podman's first process"
    await runner.close()


@pytest.mark.parametrize("way", [InContainer, InPodman])
async def test_nothing_of_a_container_is_left_behind(tenant: Tenant, way: type[InContainer]) -> None:
    """Neither on disk nor as a mount, however it ended."""
    runner = way(launch_uid=LAUNCH_UID)
    places = [Path("/tmp"), Path("/run"), Path("/var/lib"), Path("/dev/shm")]
    before = {place: {entry.name for entry in place.iterdir()} for place in places}
    mounted = mounts()
    await runner.run(tenant, shell("true"))
    await runner.run(tenant, shell("sleep 60", wall_seconds=0.5))
    for place, names in before.items():
        new = {entry.name for entry in place.iterdir()} - names
        assert not [name for name in new if any(word in name for word in ("crun", "bundle", "containers-", "libpod"))]
    assert mounts() == mounted
    await runner.close()
