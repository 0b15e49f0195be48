"""What a tool is: a declaration that models see, and a run within one tenant's workspace."""

from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from carrel.agents.workers import Workers
from carrel.declare.tenant import SandboxConfig, ToolName
from carrel.sandbox.modes import confinement_in, limits_in
from carrel.sandbox.protocol import Confinement, EgressGate, Sandbox
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import TenantRoot
from carrel.tenancy.userland import Userland
from carrel.wire.conversation import ToolSpec


@dataclass(frozen=True, slots=True)
class ToolSetting:
    """What one tool call has at hand. ``workspace`` is the path beneath the tenant's root.

    ``userland`` waits for the tenant's environment; ``show`` takes pieces of output while it runs; ``editing`` lets one
    change of files through at a time. ``gate`` is the way out of what it runs, None where there is none.
    ``access`` asks a person for something, by kind, what and reason, and gives the decision in words. ``mode`` is the
    sandbox's mode for the tool, the tenant's default one where it is empty.
    """

    tenant: Tenant
    agent: str
    workspace: str
    call_id: str
    sandbox: Sandbox
    userland: Callable[[], Awaitable[Userland]]
    workers: Workers
    show: Callable[[bytes], None]
    editing: Callable[[Hashable], AbstractAsyncContextManager[None]]
    gate: EgressGate | None = None
    access: Callable[[str, str, str], Awaitable[str]] | None = None
    mode: str = ""

    @property
    def limits(self) -> SandboxConfig:
        """The tenant's limits for a run, in the tool's mode."""
        return limits_in(self.tenant.config.sandbox, self.mode)

    @property
    def confinement(self) -> Confinement:
        """What a run is done by, in the tool's mode; raises SandboxUnavailable."""
        return confinement_in(self.tenant.config.sandbox, self.mode)

    def directory(self) -> TenantRoot:
        """The workspace, made where it is missing; the caller closes it. Blocking."""
        return self.tenant.root.directory(self.workspace, create=True)


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What the model reads. ``ending`` names the limit that ended the call or let it not begin, where one did."""

    content: str
    is_error: bool = False
    ending: str = ""


class Tool(Protocol):
    """One tool. ``spec.parameters`` is the JSON Schema that arguments were checked by before `run`."""

    @property
    def name(self) -> ToolName:
        """What it is called."""
        ...

    @property
    def annotation(self) -> str | None:
        """What it is marked as, by which the operator may give it a mode of the sandbox; None where as nothing."""
        ...

    @property
    def spec(self) -> ToolSpec:
        """As models see it."""
        ...

    async def run(self, arguments: dict[str, Any], setting: ToolSetting) -> ToolOutcome:
        """Do it. A CarrelError that it raises becomes a result that says so."""
        ...
