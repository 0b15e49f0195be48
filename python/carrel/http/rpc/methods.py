"""The one registry, with every room's methods in it."""

from typing import Final

from carrel.http.rpc import (
    agents,
    backups,
    channels,
    config,
    connections,
    cron,
    devices,
    discover,
    grants,
    memory,
    packages,
    quotas,
    sessions,
    skills,
    tenants,
    terminal,
)
from carrel.http.rpc.registry import Registry

REGISTRY: Final = Registry()
_ROOMS: Final = (
    tenants, quotas, backups, sessions, config, agents, channels, connections, cron, devices, memory, skills, packages,
    grants, terminal, discover,
)  # fmt: skip
for _room in _ROOMS:
    _room.register(REGISTRY)
