"""The snapshot before one turn's first risky step: asked for once, and waited for by all of its tool calls together."""

import asyncio
from collections.abc import Callable
from typing import Final

from carrel.agents.ports import Precaution
from carrel.tenancy.handle import Tenant

RISKY: Final = frozenset({"shell", "file_write", "file_edit"})
"""Tools that change what is in a workspace; the others only look."""


class TurnPrecaution:
    """The precaution of one turn, in one workspace."""

    def __init__(self, precaution: Precaution | None, tenant: Tenant, workspace: str, *, label: str) -> None:
        self._precaution = precaution
        self._tenant = tenant
        self._workspace = workspace
        self._label = label
        self._taken = precaution is None or tenant.config.sandbox.snapshot == "off"
        self._lock = asyncio.Lock()

    async def take(self, tool: str, told: Callable[[str], None]) -> None:
        """See to it that it was taken before ``tool`` runs."""
        if tool not in RISKY or self._taken or self._precaution is None:
            return
        async with self._lock:
            if not self._taken:
                await self._precaution.before(self._tenant, self._workspace, label=self._label, told=told)
                self._taken = True
