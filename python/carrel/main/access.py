"""Requests for access in the words of an agent and of a client, over the grants that are kept."""

from collections.abc import Callable
from typing import Final, cast

from carrel.agents.events import Turn
from carrel.clock import Clock
from carrel.grants.book import Decision, Grant, Kind
from carrel.grants.service import Grants, caution
from carrel.ids import SessionId
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import rpc
from carrel.wire.control import Actor

_SPANS: Final = {"once": "once", "1h": "for an hour", "24h": "for a day", "always": "until it is taken back"}


class Access:
    """See `agents.ports.Access` and `http.services.Access`."""

    def __init__(self, *, grants: Grants, clock: Clock) -> None:
        self._grants = grants
        self._clock = clock

    async def request(
        self, tenant: Tenant, turn: Turn, /, *, kind: str, what: str, reason: str, told: Callable[[str], None]
    ) -> str:
        """Ask on behalf of ``turn``."""
        grant = await self._grants.ask(
            tenant, kind=cast(Kind, kind), what=what, reason=reason, agent=turn.agent, session_id=turn.session_id,
            member=tenant.own, request_id=turn.request_id, told=told,
        )  # fmt: skip
        match grant.state(self._clock.now()):
            case "granted":
                return f"Granted {_SPANS[grant.decision or 'once']}: the {grant.kind} {grant.what}, in this session."
            case "denied":
                return f"Denied: the {grant.kind} {grant.what}."
            case "over":
                return f"It was granted, and is over: the {grant.kind} {grant.what}. Ask again."
        return f"Nobody has decided yet on {grant.id}. Go on without it, and ask again later."

    def tools(self, tenant: Tenant, agent: str, session_id: SessionId, /) -> tuple[str, ...]:
        """Tools that are granted to an agent in a session."""
        return self._grants.tools(tenant, agent, session_id)

    async def list(self, tenant: Tenant) -> rpc.GrantList:
        """A tenant's requests, oldest first."""
        return rpc.GrantList(grants=tuple(map(self._view, await self._grants.all(tenant))))

    async def decide(
        self, snapshot: Snapshot, tenant: Tenant, grant_id: str, decision: str, *, by: Actor, operator: bool
    ) -> rpc.GrantView:
        """Decide one."""
        decided = await self._grants.decide(
            snapshot, tenant, grant_id, cast(Decision, decision), by=by, operator=operator
        )
        return self._view(decided)

    def _view(self, grant: Grant) -> rpc.GrantView:
        return rpc.GrantView(
            id=grant.id, kind=grant.kind, what=grant.what, reason=grant.reason, agent=grant.agent,
            session_id=grant.session_id, member=grant.member, state=grant.state(self._clock.now()),
            decision=grant.decision, asked=grant.asked.isoformat(),
            decided=grant.decided.isoformat() if grant.decided is not None else None,
            decided_by=grant.decided_by, caution=caution(grant),
        )  # fmt: skip
