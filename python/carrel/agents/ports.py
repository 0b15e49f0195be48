"""What the agents take of rooms that they do not know: providers, environments, and the ways out of sandboxes."""

from collections.abc import Callable
from typing import Protocol

from carrel.agents.events import Turn
from carrel.agents.files import AgentFile
from carrel.ids import RequestId, SessionId
from carrel.providers.hedged import Hedge
from carrel.providers.protocol import Provider
from carrel.sandbox.protocol import EgressGate
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tenancy.userland import Userland


class Providers(Protocol):
    """Configured model providers."""

    def get(self, snapshot: Snapshot, tenant: Tenant, provider_name: str, /) -> Provider:
        """The provider of that name with the tenant's own key where it has one; raises NotFound."""
        ...

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str, /) -> Hedge | None:
        """How a call of ``model`` is made once more where it does not begin; None where it is not."""
        ...


class Egress(Protocol):
    """The ways out of sandboxes."""

    def gate(
        self, tenant: Tenant, *, agent: str, session_id: SessionId | None, member: str | None,
        request_id: RequestId | None,
    ) -> EgressGate:  # fmt: skip
        """A gate for what one agent runs in one session. It costs nothing until something runs."""
        ...


class Access(Protocol):
    """Asks people for what an agent may not reach yet."""

    async def request(
        self, tenant: Tenant, turn: Turn, /, *, kind: str, what: str, reason: str, told: Callable[[str], None]
    ) -> str:
        """Ask on behalf of ``turn``; how it was decided, in words for the agent.

        ``told`` takes what a person should know. Raises InvalidRequest, RateLimited.
        """
        ...

    def tools(self, tenant: Tenant, agent: str, session_id: SessionId, /) -> tuple[str, ...]:
        """Tools that are granted to an agent in a session beside those that it has."""
        ...


class PromptFiles(Protocol):
    """What an agent's prompt holds beside its own text."""

    async def of(self, tenant: Tenant, agent: str, /) -> tuple[AgentFile, ...]:
        """Its files, and the skills that it has."""
        ...


class Precaution(Protocol):
    """What is done before something is about to change a workspace."""

    async def before(self, tenant: Tenant, workspace: str, /, *, label: str, told: Callable[[str], None]) -> None:
        """Keep it as it is, where it has changed and that is cheap; ``told`` takes why it was not kept."""
        ...


class Environments(Protocol):
    """Userlands by what is in them."""

    async def userland(self, packages: frozenset[str], *, wait: float) -> Userland:
        """The userland with ``packages``, waited for up to ``wait`` seconds while it is built.

        Raises Unavailable where it is not ready by then, or the error that its build failed with.
        """
        ...
