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


class Grants(Protocol):
    """What somebody who may has opened for now."""

    def prepare(self, tenant: Tenant, /) -> None:
        """Begin to read a tenant's; until that is done there are none."""
        ...

    def rules(self, visitor: Visitor, asked: Asked, /) -> Sequence[Rule]:
        """The rules that are granted to ``visitor`` and are about ``asked``; empty on any doubt."""
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
