"""The pass-through path: a call to a provider that speaks the caller's own dialect.

Its bytes are passed on as they are. What is read of them is what the meter needs.
"""

from collections.abc import Callable

from carrel.clock import Clock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.policy.calls import Call, Meter, Outcome, Reservation
from carrel.policy.estimate import worst_input, worst_output
from carrel.policy.models import allowed
from carrel.policy.pricing import rates_for
from carrel.relay.answer import STALL_SECONDS, Answer, Caller
from carrel.relay.dialects.protocol import CallFields, dearer_tier, without_rates
from carrel.relay.passage import Passage
from carrel.relay.response import PassesOn
from carrel.relay.targets import Targets
from carrel.secrets import Secret, SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant


class Relay(PassesOn):
    """The relay of one gateway."""

    def __init__(
        self,
        *,
        meter: Meter,
        secrets: SecretStore,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        stall_seconds: float = STALL_SECONDS,
        own: Callable[[Tenant, str], Secret] | None = None,
    ) -> None:
        self._meter = meter
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._targets = Targets(secrets=secrets, clock=clock, own=own)

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
        """`handle` for a caller of any kind; ``fields`` are those of ``body``, ``more`` header lines for the vendor."""
        allowed(snapshot, tenant, fields.model)
        model = snapshot.gateway.models[fields.model]
        target = self._targets.known(snapshot, tenant, model.provider, fields)
        if target is None:
            target = await self._targets.get(snapshot, tenant, model.provider, fields)
        if fields.own_key_only is not None and not target.byo:
            raise fields.own_key_only.refusal()
        if fields.tier == "priority" and not target.byo and not _has_priority(snapshot, fields.model):
            raise dearer_tier().refusal()
        if fields.sound and not target.byo and "audio" not in model.inputs:
            raise without_rates(fields.sound).refusal()
        outgoing = fields.outgoing(body, model.upstream, asks_usage=target.takes_stream_options, byo=target.byo)
        call = Call(
            request_id,
            fields.model,
            max_input=worst_input(
                len(body), images=fields.images, context_window=model.context_window * fields.windows
            ),
            max_output=worst_output(fields.max_output, max_output=model.max_output, choices=fields.choices)
            if fields.generates
            else 0,
            byo=target.byo,
            tier=fields.tier,
        )
        reservation: Reservation = (
            await self._meter.reserve(tenant, snapshot, call) if fields.metered else _Unmetered()
        )  # fmt: skip
        passage = Passage(
            caller, request_id, target, fields, outgoing, more, reservation, self._clock, self._stall_seconds,
            call.max_input,
        )  # fmt: skip
        try:
            return await passage.run()
        except BaseException:
            # Whatever went wrong on the way, nothing stays held. What is settled already stays as it is.
            await reservation.settle(TokenCounts(), outcome="error")
            raise

    async def close(self) -> None:
        """Close every connection; what still runs ends with an error."""
        self._targets.close()


def _has_priority(snapshot: Snapshot, model: str) -> bool:
    """Whether the rate card says what calls of ``model`` cost that are served before others."""
    rates = rates_for(snapshot.rate_card, model)
    return rates is not None and rates.priority is not None


class _Unmetered:
    """The reservation of a call that makes no tokens: only its request is counted."""

    async def settle(
        self,
        usage: TokenCounts,
        *,
        outcome: Outcome,
        provider_request_id: str | None = None,
        tool_calls: int = 0,
        estimated: bool = False,
    ) -> None:
        """Nothing was reserved."""
