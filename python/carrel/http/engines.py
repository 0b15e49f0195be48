"""What the methods of a tenant's own affairs stand on: one field a room, built once and handed down."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from carrel.agents.files import AgentFiles
from carrel.agents.search_index import SessionSearch
from carrel.channels.service import Channels
from carrel.connections.service import Connections
from carrel.devices.nodes import Nodes
from carrel.devices.service import Devices
from carrel.devices.voice import VoiceWake
from carrel.ids import TenantId
from carrel.memory.service import Memory
from carrel.schedule.service import Schedule
from carrel.skills.service import Skills
from carrel.tenancy.handle import Tenant
from carrel.terminal.service import Terminals
from carrel.wire.control import Actor

Changes = Mapping[tuple[str, ...], object]


class Settings(Protocol):
    """What tenants set for themselves."""

    async def overlay(self, tenant_id: TenantId) -> dict[str, Any]:
        """What the overlay says now."""
        ...

    async def change(
        self,
        tenant_id: TenantId,
        changes: Changes | Callable[[dict[str, Any]], Changes],
        *,
        action: str,
        by: Actor,
        base: str | None = None,
    ) -> Tenant:
        """Set keys of the overlay; the tenant as it then is. Raises InvalidRequest, Conflict."""
        ...


@dataclass(frozen=True, slots=True)
class Engines:
    """The rooms."""

    settings: Settings
    agent_files: AgentFiles
    search: SessionSearch
    schedule: Schedule
    memory: Memory
    devices: Devices
    nodes: Nodes
    voice: VoiceWake
    skills: Skills
    terminals: Terminals
    channels: Channels
    connections: Connections
