"""Security 3: the basic sandbox, from inside a real one. Each denial stands beside what stays permitted."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from carrel.errors import SandboxUnavailable
from carrel.sandbox.protocol import Outcome
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.patience import eventually
from tests.fakes.sandboxed import EVERY, LAUNCH_UID, InContainer, InPodman, InWorker, reachable, shell, workspace_tenant


@pytest.fixture(params=EVERY)
async def runner(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[BwrapSandbox]:
    monkeypatch.setenv("CARREL_SECRET_CANARY", "canary-7d1f")
    made: BwrapSandbox = request.param(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def state() -> Iterator[Path]:
    with reachable() as path:
        yield path


@pytest.fixture
def tenant(state: Path) -> Iterator[Tenant]:
    made = workspace_tenant(state)
    yield made
    made.root.close()


async def inside(runner: BwrapSandbox, tenant: Tenant, command: str, **limits: float) -> Outcome:
    return await runner.run(tenant, shell(command, stdin=b"", **limits))


async def python(runner: BwrapSandbox, tenant: Tenant, code: str) -> object:
    """What ``code`` leaves in ``found``, run by the userland's Python in a sandbox."""
    source = f"import json, os, socket, errno\n{code}\nprint(json.dumps(found))"
    done = await runner.run(tenant, shell("python3 -", stdin=source.encode()))
    assert done.exit_code == 0, done.stderr.decode()
    return json.loads(done.stdout)


async def test_S3_01_no_sandbox_is_started_by_uid_0(runner: BwrapSandbox, tenant: Tenant) -> None:
    assert (await inside(runner, tenant, "true")).exit_code == 0
    launcher = runner._link.pid
    assert launcher is not None
    status = Path(f"/proc/{launcher}/status").read_text()
    for field in ("Uid", "Gid"):
        line = next(text for text in status.splitlines() if text.startswith(field))
        assert "0" not in line.split()[1:]


async def test_S3_01_the_kernels_settings_are_read_only(runner: BwrapSandbox, tenant: Tenant) -> None:
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    done = await inside(runner, tenant, "echo '|/tmp/x' > /proc/sys/kernel/core_pattern")
    assert b"Read-only file system" in done.stderr
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before
    assert (await inside(runner, tenant, "cat /proc/sys/kernel/ostype")).stdout == b"Linux\n"


async def test_S3_02_only_three_descriptors_are_inside(runner: BwrapSandbox, tenant: Tenant) -> None:
    code = "found = sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{n}'))"
    with Path(__file__).open() as held:
        os.set_inheritable(held.fileno(), True)
        assert await python(runner, tenant, code) == [0, 1, 2]
    held_by_first = (
        "found = [os.readlink(f'/proc/1/fd/{n}').split(':')[0] for n in os.listdir('/proc/1/fd') if int(n) > 2]"
    )
    assert await python(runner, tenant, held_by_first) == (
        # In a container the shell that waits keeps its errors elsewhere; bwrap has an event descriptor.
        ["pipe"] if isinstance(runner, InContainer) else ["anon_inode"]
    )


async def test_S3_02_no_further_user_namespace(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await inside(runner, tenant, "unshare --user true")
    assert done.exit_code != 0
    assert b"not permitted" in done.stderr or b"No space" in done.stderr
    assert (await inside(runner, tenant, "sh -c 'exit 0'")).exit_code == 0


@pytest.mark.parametrize("runner", [BwrapSandbox, InWorker], indirect=True)
async def test_S3_02_arguments_are_not_seen_by_other_processes(runner: BwrapSandbox, tenant: Tenant) -> None:
    task = asyncio.ensure_future(inside(runner, tenant, "sleep 3600", wall_seconds=3600))
    await eventually(lambda: any("--args" in line for line in _of_bubblewrap(runner)))
    assert "--bind" not in " ".join(_of_bubblewrap(runner))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _of_bubblewrap(runner: BwrapSandbox) -> list[str]:
    """The command lines of the runner's own: tests that run beside this one have others."""
    return [line for line in _lines_below(runner._link.pid) if line.startswith("bwrap")]


def _lines_below(pid: int | None) -> list[str]:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [line, *(deep for child in children for deep in _lines_below(child))]


@pytest.fixture
def listener() -> Iterator[int]:
    """A live listener of the host's on every address of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        stop = threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port), 5):
            pass
        yield port
        stop.set()
        thread.join()


async def test_S3_03_there_is_no_network(runner: BwrapSandbox, tenant: Tenant, listener: int) -> None:
    code = f"""
found = {{}}
hosts = {{'loopback': ('127.0.0.1', {listener}), 'metadata': ('169.254.169.254', 80), 'public': ('192.0.2.1', 443)}}
for name, address in hosts.items():
    try:
        socket.create_connection(address, 3).close()
        found[name] = 'reached'
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))
try:
    socket.getaddrinfo('carrel.example', 443)
    found['names'] = 'resolved'
except OSError:
    found['names'] = 'none'
found['interfaces'] = [name for _, name in socket.if_nameindex()]
"""
    found = await python(runner, tenant, code)
    assert found == {
        "loopback": "ECONNREFUSED", "metadata": "ENETUNREACH", "public": "ENETUNREACH", "names": "none",
        "interfaces": ["lo"],
    }  # fmt: skip


async def test_S3_03_its_own_loopback_works(runner: BwrapSandbox, tenant: Tenant) -> None:
    code = """
server = socket.create_server(('127.0.0.1', 0))
with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
    one.sendall(b'hello')
    found = other.recv(10).decode()
"""
    assert await python(runner, tenant, code) == "hello"


async def test_S3_03_abstract_sockets_of_the_host_are_not_there(runner: BwrapSandbox, tenant: Tenant) -> None:
    name = f"carrel-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(f"\0{name}")
        code = f"""
try:
    socket.socket(socket.AF_UNIX).connect('\\0{name}')
    found = 'reached'
except OSError as error:
    found = errno.errorcode[error.errno]
"""
        assert await python(runner, tenant, code) == "ECONNREFUSED"


async def test_S3_04_no_capability_and_none_to_be_gained(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await inside(runner, tenant, "grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status")
    status = dict(line.split(":\t") for line in done.stdout.decode().splitlines())
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


async def test_S3_04_only_its_own_processes_are_seen(runner: BwrapSandbox, tenant: Tenant) -> None:
    found = await python(runner, tenant, "found = sorted(int(n) for n in os.listdir('/proc') if n.isdigit())")
    assert isinstance(found, list)
    assert len(found) <= 4
    assert 1 in found


async def test_S3_04_nothing_of_the_host_is_there(runner: BwrapSandbox, tenant: Tenant, state: Path) -> None:
    (state / "tenants" / "other").mkdir()
    absent = ["/sys", "/run", "/home", "/root", "/var", "/nix", "/etc/shadow", "/etc/ssl", str(state), "/proc/kcore-x"]
    code = f"found = {{p: os.listdir(p) for p in {absent!r} if os.path.lexists(p)}}"
    # podman always puts something there: it is told to let that be empty memory.
    stand_ins: dict[str, list[str]] = {"/sys": [], "/run": []} if isinstance(runner, InPodman) else {}
    assert await python(runner, tenant, code) == stand_ins
    told = (await inside(runner, tenant, "cd /etc; echo *; cat passwd hostname")).stdout
    etc = [b"group", b"hosts", b"nsswitch.conf", b"passwd", b"resolv.conf"]
    podmans = [b"hostname", b"mtab"] if isinstance(runner, InPodman) else []
    assert told.splitlines()[0].split() == sorted(etc + podmans)
    assert told.endswith(b"sandbox" if podmans else b"/bin/false\n")
    assert b"root" not in told


async def test_S3_04_nothing_of_the_gateways_environment(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await inside(runner, tenant, "env; cat /proc/1/environ | tr '\\0' '\\n'")
    assert b"canary" not in done.stdout
    names = {line.split(b"=")[0] for line in done.stdout.splitlines() if b"=" in line}
    assert names <= {
        b"PATH", b"HOME", b"TMPDIR", b"LANG", b"TERM", b"USER", b"LOGNAME", b"SHELL", b"PWD", b"SHLVL", b"_", b"OLDPWD",
        # podman's, of which the command itself sees none.
        *([b"HOSTNAME", b"container"] if isinstance(runner, InPodman) else []),
    }  # fmt: skip


async def test_S3_04_the_first_process_holds_nothing_that_the_command_lacks(
    runner: BwrapSandbox, tenant: Tenant
) -> None:
    code = (
        "found = [l.split()[1] for l in open('/proc/1/status') if l.startswith(('CapEff', 'CapPrm', 'CapBnd', 'Uid'))]"
    )
    uid = str(getattr(runner, "uid", 1000))
    assert await python(runner, tenant, code) == [uid, "0" * 16, "0" * 16, "0" * 16]


async def test_S3_04_the_system_is_read_only_for_real(runner: BwrapSandbox, tenant: Tenant) -> None:
    code = """
found = {}
def attempt(name, do):
    try:
        do()
        found[name] = 'done'
    except OSError as error:
        found[name] = errno.errorcode[error.errno]
attempt('write', lambda: open('/usr/bin/env', 'ab'))
attempt('create', lambda: open('/usr/bin/new', 'wb'))
attempt('chmod', lambda: os.chmod('/usr/bin/env', 0o777))
attempt('truncate', lambda: os.truncate('/usr/bin/env', 0))
attempt('rename', lambda: os.rename('/usr/bin/env', '/usr/bin/vne'))
attempt('link', lambda: os.link('/usr/bin/env', '/usr/bin/vne'))
attempt('link out', lambda: os.link('/usr/bin/env', '/workspace/env'))
attempt('root', lambda: open('/new', 'wb'))
attempt('dev', lambda: open('/dev/new', 'wb'))
attempt('own', lambda: open('/workspace/new', 'wb'))
attempt('tmp', lambda: open('/tmp/new', 'wb'))
"""
    found = await python(runner, tenant, code)
    assert isinstance(found, dict)
    assert (found.pop("own"), found.pop("tmp")) == ("done", "done")
    assert found.pop("link out") == "EXDEV"
    # Who may not write a directory is told so first, before it is seen that nobody could.
    assert set(found.values()) <= {"EROFS", "EACCES"}, found
    assert [found[name] for name in ("create", "chmod", "root", "dev")] == ["EROFS"] * 4, found


async def test_S3_06_exhaustion_in_one_leaves_another_working(runner: BwrapSandbox, state: Path) -> None:
    hostile, quiet = workspace_tenant(state, "hostile"), workspace_tenant(state, "quiet")
    bombs = [
        ":(){ :|:& };:; sleep 600",
        "python3 -c 'x=[]\nwhile 1: x.append(bytearray(1<<20))'; sleep 600",
        "python3 -c 'import os\nwhile 1: os.open(\"/dev/null\", 0)'; sleep 600",
        "head -c 1G /dev/zero > /tmp/x; i=0; while :; do : > /dev/shm/$((i++)); done",
        "while :; do :; done",
    ]
    limits = {"wall_seconds": 4, "memory_bytes": 64 << 20, "pids": 64, "tmp_bytes": 1 << 20, "cpu_seconds": 3}
    running = [asyncio.ensure_future(inside(runner, hostile, bomb, **limits)) for bomb in bombs]
    await asyncio.sleep(0.5)
    for _ in range(5):
        done = await inside(runner, quiet, "for i in 1 2 3; do echo $i > f; cat f; done")
        assert done.stdout == b"1\n2\n3\n"
    for ended in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(runner, InWorker) and isinstance(ended, BaseException):
            # The bombs share their kept sandbox, and whoever comes after the first may find no room in it.
            assert isinstance(ended, SandboxUnavailable)
            assert "sandbox.pids" in str(ended)
        else:
            assert isinstance(ended, Outcome), ended
            assert ended.exit_code != 0
    for made in (hostile, quiet):
        made.root.close()


async def test_S3_07_a_command_cannot_choose_its_own_sandbox(runner: BwrapSandbox, tenant: Tenant) -> None:
    done = await inside(runner, tenant, "ulimit -u 100000; ulimit -n 100000; ulimit -v 1000000; echo $?", pids=50)
    assert b"cannot modify limit" in done.stderr or b"Operation not permitted" in done.stderr
    assert done.stdout == b"0\n", "a limit may be lowered"
    workspace = tenant.root.directory("sandbox")
    try:
        os.symlink("/etc", "link", dir_fd=workspace.fd)
    finally:
        workspace.close()
    assert (await inside(runner, tenant, "ls link")).stdout.split()[0] == b"group", "a link leads within the sandbox"


async def test_S2_04_a_workspace_that_is_a_link_is_refused(runner: BwrapSandbox, tenant: Tenant, state: Path) -> None:
    workspace, kept = state / "tenants" / "acme" / "sandbox", state / "tenants" / "acme" / "kept"
    workspace.rename(kept)
    workspace.symlink_to("/etc")
    with pytest.raises(Exception, match="link"):
        await inside(runner, tenant, "ls")
    workspace.unlink()
    kept.rename(workspace)
    assert (await inside(runner, tenant, "echo fine")).stdout == b"fine\n"
