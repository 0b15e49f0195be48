"""Requirement 3.4 where the userland is a closure: it is all that is there, it serves, and nothing in it changes."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tenancy.handle import Tenant
from tests.fakes.packageset import Built, built_sample
from tests.fakes.sandboxed import LAUNCH_UID, InContainer, workspace_tenant

ATTEMPTS = {
    "write": 'echo x >> "$f"',
    "truncate": 'python3 -c "import os, sys; os.truncate(sys.argv[1], 0)" "$f"',
    "chmod": 'chmod 777 "$f"',
    "remove": 'rm -f "$f"',
    "rename": 'mv "$f" "$f.old"',
    "make": 'mkdir "$f.d"',
    "times": 'touch "$f"',
    "link out": 'ln "$f" /workspace/linked',
    "link in": "ln -s /workspace /nix/store/linked",
}


@pytest.fixture(scope="module")
def built() -> Iterator[Built]:
    """As a gateway has it: the sandbox's uid owns the store. Its files may even be written to, but for the mount."""
    with built_sample() as made:
        uid = os.geteuid() if LAUNCH_UID is None else LAUNCH_UID
        for at, directories, files in os.walk(made.userland.mounts[0].source):
            for name in (*directories, *files):
                path = Path(at) / name
                os.chown(path, uid, -1, follow_symlinks=False)
                if not path.is_symlink():
                    # The owner's right to write is no part of what Nix hashes.
                    path.chmod(path.stat().st_mode | 0o200)
        yield made


@pytest.fixture
def tenant(built: Built) -> Iterator[Tenant]:
    made = workspace_tenant(built.state)
    yield made
    made.root.close()
    shutil.rmtree(built.state / "tenants")


@pytest.fixture(params=[BwrapSandbox, InContainer])
async def runner(request: pytest.FixtureRequest) -> AsyncIterator[BwrapSandbox]:
    made: BwrapSandbox = request.param(launch_uid=LAUNCH_UID)
    yield made
    await made.close()


async def run(runner: BwrapSandbox, tenant: Tenant, built: Built, command: str) -> tuple[int | None, str, str]:
    job = Job((built.userland.shell, "-c", command), SandboxConfig(), built.userland)
    done = await runner.run(tenant, job)
    return done.exit_code, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_S3_04_the_closure_does_not_change(
    runner: BwrapSandbox, tenant: Tenant, built: Built, attempt: str
) -> None:
    command = f'f=$(readlink -f "$(command -v jq)"); {ATTEMPTS[attempt]}'
    status, _, said = await run(runner, tenant, built, command)
    assert status != 0
    refusals = ("Read-only file system", "Invalid cross-device link")
    assert any(reason in said for reason in refusals), said


@pytest.mark.parametrize("attempt", [name for name in ATTEMPTS if "link" not in name])
async def test_S3_04_the_same_is_permitted_in_the_workspace(
    runner: BwrapSandbox, tenant: Tenant, built: Built, attempt: str
) -> None:
    command = f'f=/workspace/f; cp "$(command -v jq)" $f; {ATTEMPTS[attempt]}'
    assert (await run(runner, tenant, built, command))[0] == 0


async def test_S3_04_a_hostile_run_leaves_the_stores_hashes_true(
    runner: BwrapSandbox, tenant: Tenant, built: Built
) -> None:
    hostile = """
for f in /nix/store/*/bin/*; do echo x >> $f; chmod 777 $f; rm -f $f; mv $f /workspace; ln $f /workspace/l; done
python3 -B -c 'import json, this'; python3 -m compileall -q /nix/store
true"""
    await run(runner, tenant, built, f"({hostile}) > /dev/null 2>&1; true")
    built.verify()


async def test_S3_04_of_the_store_the_closures_paths_alone_are_there(
    runner: BwrapSandbox, tenant: Tenant, built: Built
) -> None:
    _, listed, _ = await run(runner, tenant, built, "ls -A /nix /nix/store; ls /nix/var /usr/lib /etc/passwd-")
    store = {path.name for path in (built.state / "nix" / "nix" / "store").iterdir()}
    there = set(listed.split()) - {"/nix:", "store", "/nix/store:"}
    assert there < store
    assert not [name for name in there if name.endswith((".drv", ".deb", ".links")) or "busybox" in name]
    assert (await run(runner, tenant, built, "cat /nix/var/nix/db/schema"))[0] != 0
    assert (await run(runner, tenant, built, "jq -n 1; git --version; python3 -c 1; rg --version"))[0] == 0
