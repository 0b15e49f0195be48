"""Who is behind a gate, and what the gate takes of rooms that it does not know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from carrel.ids import RequestId, SessionId, TenantId
from carrel.policy.egress.rules import Asked, Rule
from carrel.tenancy.handle import Snapshot, Tenant


@dataclass(frozen=True, slots=True)
class Visitor:
    """For whom something runs in a sandbox. ``request_id`` is that of the turn that started it.

    ``member`` is whose the session is, where members have sessions of their own.
    """

    tenant_id: TenantId
    agent: str
    session_id: SessionId | None = None
    member: str | None = None
    request_id: RequestId | None = None

    @property
    def place(self) -> tuple[str, SessionId | None, str | None]:
        """What grants are bound to."""
        return self.agent, self.session_id, self.member


class Grants(Protocol):
    """What somebody who may has opened for now."""

    def prepare(self, tenant: Tenant, /) -> None:
        """Begin to read a tenant's; until that is done there are none."""
        ...

    def rules(self, visitors: Sequence[Visitor], asked: Asked, /) -> Sequence[Rule]:
        """The rules about ``asked`` that are granted to every one of ``visitors``; empty on any doubt."""
        ...

    def opens(self, visitor: Visitor, asked: Asked, /) -> bool:
        """Whether ``asked`` is granted to ``visitor``, for telling; nothing is used up."""
        ...


class Record(Protocol):
    """The audit log."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line."""
        ...


@dataclass(frozen=True, slots=True)
class Standing:
    """A visitor's tenant as it is declared at this moment."""

    tenant: Tenant
    snapshot: Snapshot
