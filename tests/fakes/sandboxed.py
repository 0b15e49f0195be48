"""What tests of the real sandbox stand on: a tenant whose workspace the sandbox's uid can reach, and the host's /usr.

Tests may be run by root, as CI does. The launcher then becomes an unprivileged uid, as the gateway itself would have.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.protocol import Job, Outcome
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Mount, Userland
from tests.fakes.tenants import make_tenant

_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
LAUNCH_UID: Final = 60987 + _WORKER if os.geteuid() == 0 else None
"""One for each process of tests: before Linux 5.14 a limit of processes counts all of a uid's, wherever they are."""
USR: Final = Userland(
    "host", "usr", (Mount("/usr", "/usr"),), "/usr/bin", "/usr/bin/bash",
    links=(("usr/bin", "/bin"), ("usr/lib", "/lib"), ("usr/lib64", "/lib64")), reason="a test",
)  # fmt: skip


@contextmanager
def reachable() -> Iterator[Path]:
    """A directory that every uid may pass through, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="carrel-test-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def workspace_tenant(state: Path, name: str = "acme") -> Tenant:
    """A tenant beneath ``state`` with a workspace that belongs to the sandbox's uid."""
    tenant = make_tenant(state, name)
    workspace = tenant.root.directory("sandbox", create=True)
    try:
        if LAUNCH_UID is not None:
            os.fchown(workspace.fd, LAUNCH_UID, LAUNCH_UID)
            for path in (state / "tenants", state / "tenants" / name):
                path.chmod(0o711)
    finally:
        workspace.close()
    return tenant


class InWorker(BwrapSandbox):
    """The real runner, with every job sent into one worker of its tenant's."""

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        return await super().run(tenant, replace(job, keep="main"), on_output=on_output)


class InContainer(BwrapSandbox):
    """The real runner, with every job in a container by crun."""

    runtime_class = "crun"
    engine: Literal["podman"] | None = None
    uid = 1000

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        confinement = replace(job.confinement, runtime="oci", runtime_class=self.runtime_class, engine=self.engine)
        return await super().run(tenant, replace(job, confinement=confinement), on_output=on_output)


class InRuncContainer(InContainer):
    """The same by runc."""

    runtime_class = "runc"
    uid = 0


class InPodman(InContainer):
    """The same by crun that podman calls."""

    engine = "podman"


class InKeptContainer(InContainer):
    """The same by crun, with every job sent into one container of its tenant's."""

    async def run(self, tenant: Tenant, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        return await super().run(tenant, replace(job, keep="main"), on_output=on_output)


EVERY: Final = (BwrapSandbox, InWorker, InContainer, InRuncContainer, InPodman, InKeptContainer)
"""All ways in which the real runner runs a command."""


def shell(command: str, *, stdin: bytes = b"", **limits: object) -> Job:
    """A job that hands ``command`` to bash, with ``limits`` as fields of SandboxConfig."""
    declared = SandboxConfig().model_copy(update=limits)
    return Job((USR.shell, "-c", command), declared, USR, stdin=stdin)
