"""The rooms behind a tenant's own affairs for tests: the real ones, but for settings that no reconciler follows."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from carrel.agents.files import AgentFiles
from carrel.agents.sends import Sends
from carrel.agents.sessions import Sessions
from carrel.clock import Clock
from carrel.declare.merge import merge
from carrel.declare.tenant import Tenant as TenantConfig
from carrel.devices.service import Tokens
from carrel.errors import CarrelError, UpstreamError
from carrel.events.hub import Hub
from carrel.http.engines import Changes, Engines
from carrel.ids import RequestId, TenantId
from carrel.main.channels import build_channels
from carrel.main.engines import build_engines
from carrel.reconcile.own_settings import ConfigChanged
from carrel.secrets import Secret, SecretMissing
from carrel.skills.service import Skills
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.terminal.service import Terminals
from carrel.vcs.edits import DELETE
from carrel.wire.control import Actor
from tests.fakes.connections import running_connections
from tests.fakes.records import Noting
from tests.fakes.sandbox import FakeEnvironments, FakeSandbox
from tests.fakes.telegram import TOKEN
from tests.fakes.terminals import NoWayOut


class FakeSettings:
    """Overlays in memory, in force at once."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._overlays: dict[TenantId, dict[str, Any]] = {}
        self._base: dict[TenantId, TenantConfig] = {}

    async def overlay(self, tenant_id: TenantId) -> dict[str, Any]:
        return deepcopy(self._overlays.get(tenant_id, {}))

    async def change(
        self, tenant_id: TenantId, changes: Changes | Callable[[dict[str, Any]], Changes], *, action: str, by: Actor,
        base: str | None = None,
    ) -> Tenant:  # fmt: skip
        current = self._directory.current
        tenant = current.tenant(tenant_id)
        if base not in (None, tenant.revision):
            raise ConfigChanged("changed")
        overlay = await self.overlay(tenant_id)
        for path, value in (changes(overlay) if callable(changes) else changes).items():
            at = overlay
            for part in path[:-1]:
                at = at.setdefault(part, {})
            if value is DELETE:
                at.pop(path[-1], None)
            else:
                at[path[-1]] = deepcopy(value)
        below = self._base.setdefault(tenant_id, tenant.config).model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(merge(below, overlay))
        config = TenantConfig.model_validate_json(text)
        self._overlays[tenant_id] = overlay
        changed = replace(tenant, config=config, revision=hashlib.sha256(text.encode()).hexdigest())
        self._directory.publish(replace(current, tenants={**current.tenants, tenant_id: changed}))
        return changed


class FakeSecrets:
    """Secrets by name, the same for every tenant."""

    def __init__(self, **values: str) -> None:
        self.values = values

    async def get(self, tenant: Tenant, name: str) -> Secret:
        if name not in self.values:
            raise SecretMissing(f"secret {name!r} is not set.")
        return Secret(self.values[name])


class FakeAdmission:
    """Lets every request through, unless told what to raise."""

    def __init__(self) -> None:
        self.refusal: CarrelError | None = None

    async def admit_request(self, tenant: Tenant) -> None:
        if self.refusal is not None:
            raise self.refusal


async def embed(
    tenant: Tenant, snapshot: Snapshot, model: str, texts: Sequence[str], /, *, request_id: RequestId
) -> Sequence[Sequence[float]]:
    """Two axes: how much a text is about animals, and about money."""
    if model == "broken":
        raise UpstreamError("It does not answer.")
    axes = (("cat", "dog", "pet", "animal"), ("invoice", "bill", "money", "pay"))
    return [[0.01 + sum(word in text.lower() for word in axis) for axis in axes] for text in texts]


@asynccontextmanager
async def running_engines(
    state: Path, directory: Directory, clock: Clock, *, hub: Hub, sends: Sends, tokens: Tokens, audit: Noting
) -> AsyncIterator[Engines]:
    """All of them, closed at the end."""
    sessions, tasks = Sessions(clock=clock), Tasks("terminals")
    terminals = Terminals(
        state_dir=state, sandbox=FakeSandbox(), environments=FakeEnvironments(), egress=NoWayOut(),
        directory=directory, audit=audit, hub=hub, clock=clock, tasks=tasks,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        stack.push_async_callback(sessions.close)
        stack.push_async_callback(tasks.close)
        stack.push_async_callback(terminals.close)
        await terminals.start()
        connections = await stack.enter_async_context(
            running_connections(state, directory, clock, hub=hub, audit=audit)
        )
        serving = asyncio.Event()
        serving.set()
        yield build_engines(
            stack, state_dir=state, directory=directory, clock=clock, hub=hub, settings=FakeSettings(directory),
            agent_files=AgentFiles(), sessions=sessions, sends=sends, embeds=embed,
            tokens=tokens, skills=Skills(clock=clock, hub=hub), terminals=terminals,
            channels=build_channels(
                stack, directory=directory, clock=clock, hub=hub, audit=audit,
                secrets=FakeSecrets(BOT=TOKEN, HOOK="s3cret-of-the-hook"), sends=sends, sessions=sessions,
                meter=FakeAdmission(), metrics=Metrics(),
            ),
            connections=connections, serving=serving,
        )  # fmt: skip
