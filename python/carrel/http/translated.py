"""A model call whose provider speaks another dialect than the caller: translated both ways, reserved and settled."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from carrel.declare.gateway import ModelConfig
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError, UpstreamError, UpstreamTimeout
from carrel.http.errors import openai_error
from carrel.http.exchange import Exchange
from carrel.http.streaming import closing, event_stream
from carrel.metering.protocol import Call, Outcome, Reservation
from carrel.policy.estimate import likely, worst_input
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import Finished, Image, ModelEvent, ModelRequest, TextDelta, ThinkingDelta, ToolCall
from carrel.wire.openai_chat import ChatRequest, ChatStream, completion, parse, to_model_request


@dataclass(slots=True)
class _Metered:
    """One call in flight: whatever becomes of it, it is settled once."""

    reservation: Reservation
    prompt_tokens: int
    characters: int = 0
    settled: bool = False

    def saw(self, event: ModelEvent) -> None:
        """Count what came, for the case that the vendor never says."""
        if isinstance(event, TextDelta | ThinkingDelta):
            self.characters += len(event.text)

    async def finish(self, finished: Finished) -> None:
        """Settle a whole answer; returns when its row is committed."""
        self.settled = True
        await self.reservation.settle(
            finished.usage or self._estimate(),
            outcome="ok",
            provider_request_id=finished.provider_request_id,
            tool_calls=sum(isinstance(block, ToolCall) for block in finished.message.content),
            estimated=finished.usage is None,
        )

    async def give_up(self, outcome: Outcome, *, reached: bool) -> None:
        """Settle an answer that broke off: what came is estimated, and one that the vendor never began is free."""
        self.settled = True
        usage = self._estimate() if reached or self.characters else TokenCounts()
        await self.reservation.settle(usage, outcome=outcome, estimated=True)

    def _estimate(self) -> TokenCounts:
        return TokenCounts(input=self.prompt_tokens, output=likely(self.characters))


async def translated_completion(
    exchange: Exchange, tenant: Tenant, name: str, model: ModelConfig, body: bytes
) -> web.StreamResponse:
    """One completion by a provider that is called through its adapter."""
    snapshot = exchange.snapshot
    request = parse(body)
    asked = to_model_request(request, model=model.upstream or name, max_output=model.max_output)
    provider = exchange.services.providers.get(snapshot, tenant, model.provider)
    call = Call(
        request_id=exchange.request_id,
        model=name,
        max_input=worst_input(len(body), images=_images_in(asked), context_window=model.context_window),
        max_output=asked.max_tokens,
        byo=model.provider in tenant.config.providers,
    )
    reservation = await exchange.services.meter.reserve(tenant, snapshot, call)
    metered = _Metered(reservation, prompt_tokens=likely(len(body)))
    events = _settling(exchange, metered, provider.stream(asked))
    if request.stream:
        return await _streamed(exchange, request, events)
    return await _whole(exchange, request, events)


async def _settling(
    exchange: Exchange, metered: _Metered, events: AsyncIterator[ModelEvent]
) -> AsyncIterator[ModelEvent]:
    """The call's events; the last one comes after its row is in the ledger, and every other end is settled too."""
    outcome: Outcome = "cancelled"
    reached = True
    try:
        async with closing(events):
            async for event in events:
                if isinstance(event, Finished):
                    await exchange.finish(metered.finish(event), name="settle")
                else:
                    metered.saw(event)
                yield event
                if isinstance(event, Finished):
                    return
        raise UpstreamError("The model's answer ended too early.", retryable=True)
    except CarrelError as error:
        outcome = "cut" if metered.characters else "error"
        # As ADR 0065 says: what a vendor refused, or ended without a word, costs nothing.
        reached = isinstance(error, UpstreamTimeout) or not isinstance(error, UpstreamError)
        raise
    finally:
        if not metered.settled:
            await exchange.finish(metered.give_up(outcome, reached=reached), name="settle")


async def _whole(exchange: Exchange, request: ChatRequest, events: AsyncIterator[ModelEvent]) -> web.Response:
    async with closing(events):
        async for event in events:
            if isinstance(event, Finished):
                answer = completion(
                    id=f"chatcmpl-{exchange.request_id}",
                    model=request.model,
                    created=int(exchange.services.clock.now().timestamp()),
                    message=event.message,
                    stop=event.stop,
                    usage=event.usage,
                )
                return web.Response(text=json.dumps(answer, ensure_ascii=False), content_type="application/json")
    raise UpstreamError("The model's answer ended too early.", retryable=True)


async def _streamed(exchange: Exchange, request: ChatRequest, events: AsyncIterator[ModelEvent]) -> web.StreamResponse:
    chunks = ChatStream(
        id=f"chatcmpl-{exchange.request_id}",
        model=request.model,
        created=int(exchange.services.clock.now().timestamp()),
        include_usage=request.include_usage,
    )
    async with closing(events), event_stream(exchange, {}) as stream:
        try:
            async for event in events:
                await stream.send(chunks.event(event))
        except CarrelError as error:
            if not stream.begun:
                raise
            said = openai_error(error)["error"]
            await stream.send(chunks.error(error.code, error.message, type=said["type"]))
    return stream.response


def _images_in(request: ModelRequest) -> int:
    return sum(isinstance(block, Image) for message in request.messages for block in message.content)
