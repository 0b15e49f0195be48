"""One tenant's workspace and what a tool call has at hand there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from carrel.agents.tools.protocol import Tool, ToolOutcome, ToolSetting
from carrel.agents.turnstile import Turnstile
from carrel.agents.workers import Workers
from carrel.tenancy.userland import Userland
from tests.fakes.sandbox import HOST, FakeSandbox
from tests.fakes.tenants import make_tenant


@dataclass
class Rig:
    """A workspace on the host, and the setting of a call in it."""

    setting: ToolSetting
    path: Path
    sandbox: FakeSandbox
    shown: list[bytes] = field(default_factory=list)

    async def run(self, tool: Tool, **arguments: Any) -> ToolOutcome:
        """Call ``tool``."""
        return await tool.run(arguments, self.setting)

    def limited(self, **limits: Any) -> None:
        """Set other limits of a run."""
        tenant = self.setting.tenant
        sandbox = tenant.config.sandbox.model_copy(update=limits)
        changed = replace(tenant, config=tenant.config.model_copy(update={"sandbox": sandbox}))
        self.setting = replace(self.setting, tenant=changed)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    tenant, workers, sandbox = make_tenant(tmp_path), Workers(), FakeSandbox()
    shown: list[bytes] = []

    async def userland() -> Userland:
        return HOST

    setting = ToolSetting(
        tenant=tenant, agent="main", workspace="sandbox", call_id="call-1", sandbox=sandbox, userland=userland,
        workers=workers, show=shown.append, editing=Turnstile("the workspace").passing,
    )  # fmt: skip
    path = tmp_path / "tenants/acme/sandbox"
    path.mkdir()
    yield Rig(setting, path, sandbox, shown)
    workers.close()
    tenant.root.close()
