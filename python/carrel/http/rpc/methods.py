"""The one registry, with every room's methods in it."""

from typing import Final

from carrel.http.rpc import (
    agents,
    backups,
    config,
    cron,
    devices,
    discover,
    grants,
    memory,
    packages,
    sessions,
    skills,
    tenants,
)
from carrel.http.rpc.registry import Registry

REGISTRY: Final = Registry()
for _room in (tenants, backups, sessions, config, agents, cron, devices, memory, skills, packages, grants, discover):
    _room.register(REGISTRY)
