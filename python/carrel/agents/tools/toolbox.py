"""The tools that there are, and the one way to call one: checked, run, and its failure a result to read."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from carrel.agents.tools.access import RequestAccess
from carrel.agents.tools.arguments import ArgumentCheck
from carrel.agents.tools.files import FileEdit, FileRead, FileWrite
from carrel.agents.tools.listing import FileList
from carrel.agents.tools.protocol import Tool, ToolOutcome, ToolSetting
from carrel.agents.tools.search import FileSearch
from carrel.agents.tools.shell import Shell
from carrel.errors import CarrelError, DiskQuotaExceeded, SandboxBusy
from carrel.sandbox.modes import mode_of
from carrel.wire.conversation import ToolCall, ToolSpec

ALL: Final[tuple[Tool, ...]] = (Shell(), FileRead(), FileWrite(), FileEdit(), FileList(), FileSearch(), RequestAccess())


_LIMITS: Final = {SandboxBusy.code: "busy", DiskQuotaExceeded.code: "disk_quota"}
"""Errors that say that a limit let nothing begin, and how that is counted."""


class Toolbox:
    """Some tools, with their arguments' checks made once: at a tool's first call."""

    def __init__(self, tools: Iterable[Tool] = ALL) -> None:
        self._tools: Mapping[str, Tool] = {tool.name: tool for tool in tools}
        self._checks: dict[str, ArgumentCheck] = {}

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """The declarations of those of ``names`` that there are, in their order."""
        return tuple(self._tools[name].spec for name in names if name in self._tools)

    async def call(self, call: ToolCall, setting: ToolSetting, *, offered: Iterable[str]) -> ToolOutcome:
        """Run ``call``. What is wrong with it, and what goes wrong in it, is a result for the model to read."""
        names = tuple(offered)
        tool = self._tools.get(call.name) if call.name in names else None
        if tool is None:
            have = ", ".join(names) or "none"
            return ToolOutcome(f"There is no tool {call.name[:64]!r}. Tools at hand: {have}.", is_error=True)
        try:
            check = await self._check(tool)
            mode = mode_of(setting.tenant.config.sandbox, tool.name, tool.annotation)
            return await tool.run(check.parse(call.arguments), replace(setting, mode=mode))
        except CarrelError as error:
            return ToolOutcome(error.message, is_error=True, ending=_LIMITS.get(error.code, ""))

    async def _check(self, tool: Tool) -> ArgumentCheck:
        if tool.name not in self._checks:
            self._checks[tool.name] = await asyncio.to_thread(ArgumentCheck, tool.spec)
        return self._checks[tool.name]
