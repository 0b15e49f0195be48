"""The files of an agent that its owner writes and its prompt holds: who it is, whom it serves, what it should remember.

They are in the tenant's state, where no tool reaches them, one directory an agent.
"""

import asyncio
import contextlib
import stat
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from carrel.errors import CarrelError, InvalidRequest, NotFound, TooLarge
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot

NAMES: Final = (
    "AGENTS.md", "SOUL.md", "IDENTITY.md", "USER.md", "TOOLS.md", "HEARTBEAT.md", "MEMORY.md", "BOOTSTRAP.md"
)  # fmt: skip
"""In the order in which the prompt holds them."""
MAX_BYTES: Final = 64 << 10
IN_PROMPT: Final = 20_000
"""Characters of one file that the prompt holds; the rest is kept and not told."""
KEPT: Final = 512


@dataclass(frozen=True, slots=True)
class AgentFile:
    """One file. ``updated`` is None where it is not there."""

    name: str
    text: str = ""
    updated: datetime | None = None

    def shown(self) -> str:
        """The text as the prompt holds it."""
        text = self.text.strip()
        cut = len(text) > IN_PROMPT
        return f"{text[:IN_PROMPT]}\n[{self.name} goes on; only this much of it is told.]" if cut else text


class AgentFiles:
    """The files of all agents. Only this writes them, so what was read is good until it does."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[TenantRoot, tuple[AgentFile, ...]]] = OrderedDict()

    async def of(self, tenant: Tenant, agent: str) -> tuple[AgentFile, ...]:
        """All that there are of an agent."""
        key = (tenant.id, agent)
        known = self._known.get(key)
        if known is not None and known[0] is tenant.root:
            self._known.move_to_end(key)
            return known[1]
        found = await asyncio.to_thread(_read, tenant, agent)
        self._known[key] = tenant.root, found
        if len(self._known) > KEPT:
            self._known.popitem(last=False)
        return found

    async def list(self, tenant: Tenant, agent: str) -> Sequence[AgentFile]:
        """Every file that an agent may have, those that are not there too."""
        found = {file.name: file for file in await self.of(tenant, agent)}
        return [found.get(name, AgentFile(name)) for name in NAMES]

    async def get(self, tenant: Tenant, agent: str, name: str) -> AgentFile:
        """One file, empty where it is not there; raises NotFound for a name that is none of them."""
        _known_name(name)
        return next((file for file in await self.list(tenant, agent) if file.name == name), AgentFile(name))

    async def set(self, tenant: Tenant, agent: str, name: str, text: str) -> AgentFile:
        """Write one file; an empty text removes it. Raises TooLarge, StorageFull."""
        _known_name(name)
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_BYTES:
            raise TooLarge(f"{name} has {len(data)} bytes; {MAX_BYTES} are allowed.", param="content")
        if "\0" in text:
            raise InvalidRequest(f"{name} is text; it holds a NUL.", param="content")
        try:
            await asyncio.to_thread(_write, tenant, f"{_directory(agent)}/{name}", data)
        finally:
            self._known.pop((tenant.id, agent), None)
        return await self.get(tenant, agent, name)

    async def remove(self, tenant: Tenant, agent: str) -> None:
        """Remove all files of an agent."""
        for file in await self.of(tenant, agent):
            await self.set(tenant, agent, file.name, "")


def _known_name(name: str) -> None:
    if name not in NAMES:
        raise NotFound(f"An agent has no file {name[:80]!r}; there are {', '.join(NAMES)}.")


def _directory(agent: str) -> str:
    return f"agents/{agent}"


def _read(tenant: Tenant, agent: str) -> tuple[AgentFile, ...]:
    try:
        there = {
            name: info for name, info in tenant.root.entries(_directory(agent)) if stat.S_ISREG(info.st_mode)
        }  # fmt: skip
    except NotFound:
        return ()
    found = []
    for name in NAMES:
        if name in there:
            with contextlib.suppress(CarrelError):
                text = tenant.root.read(f"{_directory(agent)}/{name}", limit=MAX_BYTES).decode("utf-8", "replace")
                found.append(AgentFile(name, text, datetime.fromtimestamp(there[name].st_mtime, UTC)))
    return tuple(found)


def _write(tenant: Tenant, path: str, data: bytes) -> None:
    if data.strip():
        tenant.root.replace(path, data)
        return
    with contextlib.suppress(NotFound):
        tenant.root.remove(path)
