"""How a response is made while nobody waits for it: its events are noted, and its end is the whole of it."""

import json
from collections.abc import AsyncIterator
from typing import Any

from carrel.errors import UpstreamError
from carrel.http.exchange import Exchange
from carrel.http.streaming import closing
from carrel.relay.answer import CallerGone
from carrel.relay.collected import Collected
from carrel.relay.dialects.responses import ResponsesFields
from carrel.responses.service import Run
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import ModelEvent
from carrel.wire.responses_answer import ResponseStream
from carrel.wire.sse import SseDecoder

Json = dict[str, Any]


async def played(run: Run, stream: ResponseStream, events: AsyncIterator[ModelEvent | None]) -> Json:
    """The response that a model's or an agent's ``events`` make."""
    noting = _Noting(run, str(run.kept.id))
    async with closing(events):
        async for event in events:
            noting.feed(stream.tick() if event is None else stream.event(event))
    if stream.final is None:
        raise UpstreamError("The model's answer ended too early.", retryable=True)
    return noting.named(stream.final)


async def passed_through(exchange: Exchange, tenant: Tenant, run: Run, body: bytes, *, response_id: str) -> Json:
    """The vendor's response to ``body``, under our own id; raises UpstreamError where it is not whole."""
    fields = ResponsesFields.read(body)
    noting = _Noting(run, response_id)
    caller = Collected(noting.feed if fields.stream else None)
    try:
        await exchange.services.relay.pass_on(
            caller, tenant, exchange.snapshot, exchange.request_id, body, fields=fields
        )  # fmt: skip
    except CallerGone:
        raise UpstreamError("The response is larger than can be kept.") from None
    if not fields.answers or not fields.answers[-1].get("status"):
        raise UpstreamError("The provider ended its answer before it was whole.")
    return noting.named(fields.answers[-1])


class _Noting:
    """Notes the events in the bytes of a stream, under the response's own id and numbers."""

    def __init__(self, run: Run, response_id: str) -> None:
        self._run = run
        self._id = response_id
        self._decoder = SseDecoder()
        self._previous = run.kept.body.get("previous_response_id")

    def feed(self, data: bytes) -> None:
        for event in self._decoder.feed(data):
            try:
                record = json.loads(event.data)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and record.get("type") != "error":
                if isinstance(record.get("response"), dict):
                    record["response"] = self.named(record["response"])
                self._run.note(record | {"sequence_number": len(self._run.events)})

    def named(self, response: Json) -> Json:
        """``response`` as it is kept."""
        told = {"id": self._id, "background": True, "store": True, "previous_response_id": self._previous}
        return response | told
