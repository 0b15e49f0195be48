"""What a model call is to the ledger: reserved before, settled once after.

Down here, for the rooms that make calls may not know the room that meters them.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from carrel.declare.rate_card import Tier, TokenCounts
from carrel.ids import RequestId, SessionId
from carrel.tenancy.handle import Snapshot, Tenant

Outcome = Literal["ok", "error", "cancelled", "cut", "interrupted"]
"""``cut``: the vendor's stream broke off; ``cancelled``: the caller went away; ``interrupted``: the gateway died."""


class Call(NamedTuple):
    """A model call about to be made. Token numbers are the worst case; ``model`` is the name that is billed."""

    request_id: RequestId
    model: str
    max_input: int
    max_output: int
    session_id: SessionId | None = None
    agent: str | None = None
    byo: bool = False
    tier: Tier | None = None
    """The tier that is asked for; None leaves it to the vendor. What it is served at its usage says."""


@dataclass(frozen=True, slots=True)
class ToolEnding:
    """A tool call that a limit ended, or let not begin. ``ending`` names it, as in `carrel_sandbox_runs_total`."""

    request_id: str
    session_id: str
    agent: str
    tool: str
    call_id: str
    ending: str
    seconds: float


class Reservation(Protocol):
    """A call that was let through. Settle it once, whatever happened; a second settle is ignored."""

    async def settle(
        self,
        usage: TokenCounts,
        *,
        outcome: Outcome,
        provider_request_id: str | None = None,
        tool_calls: int = 0,
        estimated: bool = False,
    ) -> None:
        """Write the ledger row; returns when it is committed. Raises StorageFull where it cannot be."""
        ...


class Meter(Protocol):
    """Lets calls through or refuses them, and writes down what they cost."""

    async def admit_request(self, tenant: Tenant) -> None:
        """Count one request against the request quotas; raises QuotaExceeded. Once per request at the edge."""
        ...

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> Reservation:
        """Reserve the worst case of ``call``; raises QuotaExceeded, or InvalidRequest for a model with no price."""
        ...


class TurnMeter(Meter, Protocol):
    """A meter that also counts sessions in which a turn runs."""

    def session(self, tenant: Tenant, session_id: SessionId) -> AbstractContextManager[None]:
        """Count a turn in a session for as long as the block lasts; raises QuotaExceeded where too many have one."""
        ...
