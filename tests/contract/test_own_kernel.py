"""What a runtime with a kernel of its own promises, tried with gVisor's `runsc` (Debian's package of that name).

The same as every runner does (`test_sandbox_runners`), but for what such a kernel is: its limits are held around it.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox import probe
from carrel.sandbox.protocol import Confinement
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.contract.test_sandbox_runners import Greeting, running
from tests.fakes.patience import eventually, soon
from tests.fakes.sandboxed import LAUNCH_UID, InContainer, reachable, shell, workspace_tenant

pytestmark = pytest.mark.skipif(shutil.which("runsc") is None, reason="runsc is not on this machine")

GIB: Final = 1 << 30
FORKS: Final = """
import os, time
for _ in range(400):
    if os.fork() == 0:
        time.sleep(600)
"""
FILL: Final = """
taken = []
for _ in range({mib} // 32):
    piece = bytearray(32 << 20)
    piece[::4096] = bytes(len(piece[::4096]))
    taken.append(piece)
"""


class InGvisor(InContainer):
    """The real runner, with every job in a container by runsc."""

    runtime_class = "runsc"
    uid = 0


@pytest.fixture
async def gvisor() -> AsyncIterator[InGvisor]:
    made = InGvisor(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()


async def test_output_codes_signals_and_the_workspace(gvisor: InGvisor, tenant: Tenant) -> None:
    done = await gvisor.run(tenant, shell("cat; echo err >&2; uname -r; echo kept > file; exit 3", stdin=b"fed\n"))
    assert (done.exit_code, done.stderr, done.killed) == (3, b"err\n", None)
    assert done.stdout.split()[0] == b"fed"
    assert done.stdout.split()[1].decode() != os.uname().release, "a kernel of its own"
    await gvisor.run(tenant, shell("echo gone > /tmp/file"))
    done = await gvisor.run(tenant, shell("cat file; cat /tmp/file; kill -SEGV $$"))
    assert (done.stdout, done.exit_code, done.signal) == (b"kept\n", None, 11)


async def test_our_own_probe_finds_nothing_wrong(gvisor: InGvisor, tenant: Tenant) -> None:
    code = Path(probe.__file__).read_bytes()
    found = await gvisor.run(tenant, shell("exec python3 -I -S -B - 0 1", stdin=code))
    assert json.loads(found.stdout) == []


async def test_time_ends_it_with_all_that_it_is(gvisor: InGvisor, tenant: Tenant) -> None:
    shown = asyncio.Event()
    over = shell("sleep 600 & echo begun; sleep 600", wall_seconds=3.0)
    task = asyncio.ensure_future(gvisor.run(tenant, over, on_output=lambda _: shown.set()))
    await soon(shown.wait())
    ours = [line for line in running("/tmp/bundle") if "runsc" in line]
    assert ours
    assert (await task).killed == "wall_clock"
    await eventually(lambda: len([one for one in running("/tmp/bundle") if "runsc" in one]) < len(ours))


async def test_memory_is_that_of_all_of_it_and_what_is_over_dies_alone(gvisor: InGvisor, tenant: Tenant) -> None:
    less, more = (f"python3 -c '{FILL.format(mib=mib)}'" for mib in (256, 1088))
    beside = await gvisor.run(tenant, shell(f"{less} && echo fits; {more}; echo lives", memory_bytes=GIB))
    assert (beside.stdout, beside.killed) == (b"fits\nlives\n", None)
    assert b"out of memory: " in beside.stderr, "the reason is told"
    assert (await gvisor.run(tenant, shell(f"exec {more}", memory_bytes=GIB))).killed == "memory"


async def test_memory_that_cannot_be_held_runs_nothing_and_says_what_can(gvisor: InGvisor, tenant: Tenant) -> None:
    with pytest.raises(SandboxUnavailable, match=r"whole GiB of memory.*this mode has 256 MiB: say `memory_bytes"):
        await gvisor.run(tenant, shell("echo ran > ran", memory_bytes=256 << 20))
    assert (await gvisor.run(tenant, shell("ls", memory_bytes=GIB))).stdout == b""


async def test_processes_files_and_their_size_are_limited(gvisor: InGvisor, tenant: Tenant) -> None:
    crowd = await gvisor.run(tenant, shell(f"python3 -c '{FORKS}'; echo lives", pids=40))
    assert (crowd.exit_code, crowd.stdout) == (2, b""), crowd
    assert b"Resource temporarily unavailable" in crowd.stderr, "the reason is told"
    limited = "head -c 2000000 /dev/zero > f; stat -c %s f; ulimit -n; ulimit -t; head -c 3000000 /dev/zero > /tmp/f; "
    job = shell(f"{limited} wc -c < /tmp/f", file_size_bytes=1 << 20, open_files=33, cpu_seconds=44, tmp_bytes=1 << 20)
    done = await gvisor.run(tenant, job)
    assert done.stdout.split()[-3:] == [b"33", b"44", b"1048576"], done
    assert (Path(f"/proc/self/fd/{tenant.root.fd}").resolve() / "sandbox/f").stat().st_size == 1 << 20


async def test_a_mode_may_refuse_calls_besides(gvisor: InGvisor, tenant: Tenant) -> None:
    job = shell("ln -s here there && echo made; unshare -U true || echo refused; echo lives")
    refusing = replace(job, confinement=Confinement(deny_calls=("symlink", "symlinkat")))
    assert (await gvisor.run(tenant, refusing)).stdout == b"refused\nlives\n"
    assert (await gvisor.run(tenant, job)).stdout == b"made\nrefused\nlives\n"


async def test_the_gate_is_all_that_is_reached(gvisor: InGvisor, tenant: Tenant) -> None:
    gate = Greeting(b"one")
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    places = ("127.0.0.1", port), ("169.254.169.254", 80)
    look = f"import socket\nfor at in {places!r}: print(socket.socket().connect_ex(at))"
    ask = shell(f'exec 3<>/dev/tcp/$WAY; cat <&3; cat /etc/ssl/certs/ca.crt; echo; python3 -c "{look}"')
    done = await gvisor.run(tenant, replace(ask, gate=gate))
    assert done.stdout.splitlines() == [b"onecertificates", b"111", b"101"], "refused, and no route"
    await soon(gate.cancelled.wait())
    listener.close()


async def test_nothing_is_kept_and_a_command_says_so(gvisor: InGvisor, tenant: Tenant) -> None:
    for _ in range(2):
        done = await gvisor.run(tenant, replace(shell("cat /tmp/left; echo x > /tmp/left; uname -r"), keep="main"))
        assert done.stdout.decode().strip() != os.uname().release, "never sent into the host's kernel"
        assert (done.exit_code, gvisor.kept()) == (0, ())
        assert "runsc, which runs it, has a kernel of its own, and none is kept" in done.note


async def test_it_is_known_by_what_it_says_and_not_by_its_name(tenant: Tenant) -> None:
    runner = BwrapSandbox(launch_uid=LAUNCH_UID)
    runsc = shutil.which("runsc")
    assert runsc is not None
    with tempfile.TemporaryDirectory(dir="/var/lib") as path:
        Path(path).chmod(0o755)
        named = Path(shutil.copy(runsc, f"{path}/another"))
        job = shell("uname -r")
        done = await runner.run(tenant, replace(job, confinement=Confinement("oci", str(named))))
        assert done.stdout.decode().strip() != os.uname().release
        with pytest.raises(SandboxUnavailable, match="leave out the mode's `engine`"):
            await runner.run(tenant, replace(job, confinement=Confinement("oci", str(named), engine="podman")))
        # What speaks no command line of an OCI runtime says so in its own words, and nothing is run by another.
        shim = Path(path, "kata-runtime")
        shim.write_text(
            '#!/bin/sh\ncase "$*" in *--version*) echo "kata-runtime  : 3.2.0";;\n'
            '*) while [ "$1" != --log ]; do shift; done; echo "Invalid command \\"create\\"" > "$2"; exit 1;; esac\n'
        )
        shim.chmod(0o755)
        with pytest.raises(SandboxUnavailable, match='Invalid command "create"'):
            await runner.run(tenant, replace(job, confinement=Confinement("oci", str(shim))))
    await runner.close()
