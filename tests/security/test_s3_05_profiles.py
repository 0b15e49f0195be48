"""Security 3.5 and 3.7: a named seccomp profile narrows what a mode's commands may ask, and never widens it."""

import errno
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from carrel.declare.modes import CALLS
from carrel.declare.tenant import SandboxConfig, SandboxMode, SeccompProfile
from carrel.sandbox.modes import confinement_in
from carrel.sandbox.protocol import Outcome
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.sandboxed import LAUNCH_UID, InContainer, InPodman, InWorker, reachable, shell, workspace_tenant

LINKS = ("symlink", "symlinkat")
EVERYTHING = (*sorted(CALLS), "mount", "unshare", "bpf")
PROFILES = {
    "refused": SeccompProfile(deny_calls=LINKS),
    "absent": SeccompProfile(deny_calls=LINKS, answer="absent"),
    "killed": SeccompProfile(deny_calls=LINKS, answer="kill"),
    "but_links": SeccompProfile(allow_calls=tuple(call for call in sorted(CALLS) if call not in LINKS)),
    # As no check lets it through: what it says of calls that the sandbox has not is nothing.
    "wide": SeccompProfile(allow_calls=EVERYTHING),
}
CONFIG = SandboxConfig(profiles=PROFILES, modes={name: SandboxMode(seccomp=name) for name in PROFILES})
ASK = """
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
def link():
    try:
        os.symlink("there", "link")
    except OSError as error:
        return error.errno
    os.unlink("link")
    return 0
child = os.fork()
if child == 0:
    os._exit(link())
status = os.waitpid(child, 0)[1]
said = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
asked = [libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), libc.unshare(0x10000000)]
print(said, *asked, ctypes.get_errno())
"""


@pytest.fixture(params=[BwrapSandbox, InWorker, InContainer, InPodman])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[BwrapSandbox]:
    made: BwrapSandbox = request.param(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


@pytest.fixture
def tenant() -> Iterator[Tenant]:
    with reachable() as path:
        made = workspace_tenant(path)
        yield made
        made.root.close()


async def test_S3_05_a_profile_narrows_and_never_widens(runner: BwrapSandbox, tenant: Tenant) -> None:
    async def asked(mode: str) -> Outcome:
        job = replace(shell("python3 -", stdin=ASK.encode()), confinement=confinement_in(CONFIG, mode))
        return await runner.run(tenant, job)

    denied = f"-1 -1 {errno.EPERM}\n"
    assert {mode: (await asked(mode)).stdout.decode() for mode in ("bwrap", *PROFILES)} == {
        "bwrap": f"0 {denied}",
        "refused": f"{errno.EPERM} {denied}",
        "absent": f"{errno.ENOSYS} {denied}",
        "killed": f"-31 {denied}",
        "but_links": f"{errno.EPERM} {denied}",
        "wide": f"0 {denied}",
    }
