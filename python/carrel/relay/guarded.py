"""The relay behind the guard of its providers: each call has a place, and its outcome is what a circuit goes by."""

from carrel.ids import RequestId
from carrel.providers.guard import Guard
from carrel.relay.answer import Answer, Caller
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.response import PassesOn
from carrel.tenancy.handle import Snapshot, Tenant


class GuardedRelay(PassesOn):
    """A relay like any other."""

    def __init__(self, relay: PassesOn, guard: Guard) -> None:
        self._relay = relay
        self._guard = guard

    async def pass_on(
        self,
        caller: Caller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: CallFields,
        more: bytes = b"",
    ) -> Answer:
        """See `relay.Relay.pass_on`; raises CircuitOpen, and UpstreamTimeout or RateLimited where no place is free."""
        model = snapshot.gateway.models.get(fields.model)
        config = snapshot.gateway.providers.get(model.provider) if model is not None else None
        if model is None or config is None:
            return await self._relay.pass_on(
                caller, tenant, snapshot, request_id, body, fields=fields, more=more
            )  # fmt: skip
        ticket = self._guard.enter_now(tenant, model.provider, config)
        if ticket is None:
            ticket = await self._guard.enter(tenant, model.provider, config)
        try:
            answer = await self._relay.pass_on(
                caller, tenant, snapshot, request_id, body, fields=fields, more=more
            )  # fmt: skip
        except BaseException as error:
            ticket.end(error)
            raise
        ticket.end()
        return answer
