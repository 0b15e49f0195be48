"""The pass-through path: a chat completion to a provider that speaks the caller's own dialect.

Its bytes are passed on as they are. What is read of them is what the meter needs.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from carrel.clock import Clock
from carrel.declare.rate_card import TokenCounts
from carrel.ids import RequestId
from carrel.policy.calls import Call, Meter
from carrel.policy.estimate import worst_input, worst_output
from carrel.policy.models import allowed
from carrel.relay.answer import STALL_SECONDS, Answer, Caller
from carrel.relay.fields import ChatFields, read_fields
from carrel.relay.passage import Outgoing, Passage
from carrel.relay.response import Relayed
from carrel.relay.splice import add_member, replace_members
from carrel.relay.targets import Targets
from carrel.secrets import Secret, SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant

_ASK_USAGE: Final = b'"stream_options":{"include_usage":true}'


class Relay:
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

    async def handle(
        self, request: web.BaseRequest, tenant: Tenant, snapshot: Snapshot, request_id: RequestId, body: bytes
    ) -> web.StreamResponse:
        """Pass ``body`` on and its answer back, metered. The request was admitted before.

        Raises CarrelError before the answer's first byte; after it, an answer that fails is cut.
        """
        relayed = Relayed(request)
        await relayed.introduce()
        answer = await self.pass_on(relayed, tenant, snapshot, request_id, body, fields=read_fields(body))
        relayed.set_status(answer.status)
        return relayed

    async def pass_on(
        self,
        caller: Caller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: ChatFields,
    ) -> Answer:
        """`handle` for a caller of any kind; ``fields`` are those of ``body``."""
        allowed(snapshot, tenant, fields.model)
        model = snapshot.gateway.models[fields.model]
        target = self._targets.known(snapshot, tenant, model.provider)
        if target is None:
            target = await self._targets.get(snapshot, tenant, model.provider)
        outgoing = _outgoing(body, fields, model.upstream, asks_usage=target.takes_stream_options)
        call = Call(
            request_id,
            fields.model,
            max_input=worst_input(len(body), images=fields.images, context_window=model.context_window),
            max_output=worst_output(fields.max_output, max_output=model.max_output, choices=fields.choices),
            byo=target.byo,
        )
        reservation = await self._meter.reserve(tenant, snapshot, call)
        passage = Passage(
            caller, request_id, target, outgoing, reservation, self._clock, self._stall_seconds
        )  # fmt: skip
        try:
            return await passage.run()
        finally:
            # Whatever went wrong on the way, nothing stays held. What is settled already stays as it is.
            await reservation.settle(TokenCounts(), outcome="error")

    async def close(self) -> None:
        """Close every connection; what still runs ends with an error."""
        self._targets.close()


def _outgoing(body: bytes, fields: ChatFields, upstream: str | None, *, asks_usage: bool) -> Outgoing:
    """The body as the vendor gets it: another name for the model, and the stream's usage asked for."""
    if upstream is not None and upstream != fields.model:
        body = replace_members(body, {"model": upstream})
    if not fields.stream or fields.include_usage or not asks_usage:
        return Outgoing(body, body, hides_usage=False)
    if fields.adds_options:
        return Outgoing(add_member(body, _ASK_USAGE), body, hides_usage=True)
    options = {**(fields.stream_options or {}), "include_usage": True}
    return Outgoing(replace_members(body, {"stream_options": options}), body, hides_usage=True)
