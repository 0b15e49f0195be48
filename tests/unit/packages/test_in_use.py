"""An environment is there for as long as a sandbox uses it, whatever tenants want meanwhile, and is then given back."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carrel.declare.tenant import SandboxConfig
from carrel.packages.environments import Environments
from carrel.packages.farm import remove
from carrel.packages.nix import NixSource
from carrel.packages.prebuilt import IndexSource
from carrel.sandbox.protocol import Job
from carrel.sandbox.runner import BwrapSandbox
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.tenancy.userland import Userland
from tests.fakes.clock import FakeClock
from tests.fakes.packageset import SET, Built
from tests.fakes.patience import PATIENCE
from tests.fakes.sandboxed import LAUNCH_UID, reachable, workspace_tenant

JQ, GIT = frozenset({"jq"}), frozenset({"git"})
DAYS = 3 * 86400.0


class Rig:
    """A gateway's environments of an index, and its sandboxes."""

    def __init__(self, state: Path, source: IndexSource, runner: BwrapSandbox, tasks: Tasks) -> None:
        self.state, self.runner = state, runner
        self.clock = FakeClock(start=datetime.now(UTC))
        self.wanted = {JQ}
        self.made = Environments(
            source=source, require_closure=True, clock=self.clock, tasks=tasks, wanted=lambda: self.wanted
        )
        self.tenant: Tenant = workspace_tenant(state)

    async def userland(self, packages: frozenset[str]) -> Userland:
        made = await self.made.userland(packages, wait=60)
        (self.state / "envs").chmod(0o755)
        return made

    async def run(self, packages: frozenset[str], command: str, keep: str | None = "main") -> str:
        userland = await self.userland(packages)
        job = Job((userland.shell, "-c", command), SandboxConfig(), userland)
        done = await self.runner.run(self.tenant, replace(job, keep=keep))
        assert done.exit_code == 0, done.stderr.decode()
        return done.stdout.decode()

    async def days_pass(self) -> None:
        """Until what nobody wants has been looked for, twice: the first time lets go of it, the second removes it."""
        for _ in range(2):
            self.clock.advance(DAYS)
            before = self.made._collected
            async with asyncio.timeout(PATIENCE):
                # Nothing is collected while something is built.
                while self.made._collected == before:
                    self.made.refresh()
                    await asyncio.sleep(0.01)
            # The collection itself is behind this.
            async with self.made._still:
                gc.collect()


@pytest.fixture
async def rig(built: Built, index: Path) -> AsyncIterator[Rig]:
    tasks, runner = Tasks("test"), BwrapSandbox(launch_uid=LAUNCH_UID)
    with reachable() as state:
        made = Rig(state, IndexSource(index, state_dir=state, root=str(built.state / "nix")), runner, tasks)
        yield made
        await runner.close()
        await tasks.close()
        made.tenant.root.close()
        for path in state.iterdir():
            remove(path)


async def test_a_kept_sandbox_keeps_its_environment_until_it_ends(rig: Rig) -> None:
    farm = rig.state / "envs" / (await rig.userland(GIT)).key
    await rig.run(GIT, "sleep 1000 > /dev/null 2>&1 &")
    await rig.days_pass()
    assert [state.packages for state in rig.made.states()] == [("jq",)]
    assert farm.is_dir(), "the sandbox still has it"
    assert "git version" in await rig.run(GIT, "git --version")
    await rig.runner.stop_tenant(rig.tenant.id)
    await rig.days_pass()
    assert not farm.exists()
    assert "jq-" in await rig.run(JQ, "jq --version", keep=None), "what is wanted is still there"
    assert "git version" in await rig.run(GIT, "git --version", keep=None), "and the other one is made anew"


async def test_what_runs_keeps_the_old_set_and_what_comes_after_has_the_new_one(rig: Rig) -> None:
    await rig.run(GIT, "sleep 1000 > /dev/null 2>&1 & echo $! > pid")
    told = await rig.run(JQ, "command -v git jq")
    assert told == "/nix/profile/bin/git\n", "something still runs in it"
    await rig.run(JQ, "kill $(cat pid)")
    async with asyncio.timeout(PATIENCE):
        while "jq" not in (told := await rig.run(JQ, "command -v git jq || true")):
            await asyncio.sleep(0.05)
    assert told == "/nix/profile/bin/jq\n"


async def test_one_gateway_collects_nothing_of_anothers(built: Built, tmp_path: Path) -> None:
    """Two on one store: each holds what is its own by roots of its own."""
    other = NixSource(SET, state_dir=tmp_path, store=str(built.state / "nix"))
    extra = await other.build(frozenset({"gawk"}), log=print)
    there = Path(f"{built.state}/nix{extra.search_path}").parent
    await built.source().prune({built.userland.key}, before=datetime.now(UTC) + timedelta(days=1))
    await built.source().collect()
    assert there.is_dir()
    assert await other.prune((), before=datetime.now(UTC) + timedelta(days=1))
    await other.collect()
    assert not there.exists()
    assert Path(f"{built.state}/nix{built.userland.search_path}").is_dir()
    for path in tmp_path.iterdir():
        remove(path)
