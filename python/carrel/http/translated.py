"""A model call whose provider speaks another dialect than the caller: reserved, made through its adapter, settled."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from carrel.agents.sizes import images_in, request_bytes
from carrel.declare.rate_card import Tier, TokenCounts
from carrel.errors import CarrelError, UpstreamError, UpstreamTimeout
from carrel.http.exchange import Exchange
from carrel.http.streaming import closing
from carrel.metering.protocol import Call, Outcome, Reservation
from carrel.policy.estimate import IMAGE_TOKENS, filled, likely, worst_input
from carrel.policy.ways import Translated
from carrel.providers.hedged import Claim, Superseded, raced
from carrel.tenancy.handle import Tenant
from carrel.wire.asked import ToModel
from carrel.wire.conversation import (
    Finished,
    ModelEvent,
    ModelRequest,
    ProviderEvent,
    Served,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
)


@dataclass(slots=True)
class _Metered:
    """One call in flight: whatever becomes of it, it is settled once."""

    reservation: Reservation
    prompt_tokens: int
    said: int = 0
    thought: int = 0
    served: Tier | None = None
    settled: bool = False

    def saw(self, event: ModelEvent) -> None:
        """Count what came, for the case that the vendor never says."""
        match event:
            case TextDelta(text) | ToolDelta(arguments=text):
                self.said += len(text.encode("utf-8", "replace"))
            case ThinkingDelta(text):
                self.thought += len(text.encode("utf-8", "replace"))

    @property
    def begun(self) -> bool:
        """Whether anything came."""
        return bool(self.said or self.thought)

    async def finish(self, finished: Finished) -> Finished:
        """Settle a whole answer, and give it with what it is charged for; returns when its row is committed."""
        self.settled = True
        usage, estimated = self._used(finished.usage)
        await self.reservation.settle(
            usage,
            outcome="ok",
            provider_request_id=finished.provider_request_id,
            tool_calls=sum(isinstance(block, ToolCall) for block in finished.message.content),
            estimated=estimated,
        )
        return replace(finished, usage=usage)

    async def give_up(self, outcome: Outcome, *, reached: bool) -> None:
        """Settle an answer that broke off: what came is estimated, and one that the vendor never began is free."""
        self.settled = True
        usage = self._used(None)[0] if reached or self.begun else TokenCounts()
        await self.reservation.settle(usage, outcome=outcome, estimated=True)

    def _used(self, said: TokenCounts | None) -> tuple[TokenCounts, bool]:
        return filled(
            said, prompt=self.prompt_tokens, output=likely(self.said), reasoning=likely(self.thought),
            served=self.served,
        )  # fmt: skip


async def translated_events(
    exchange: Exchange, tenant: Tenant, way: Translated, asked: ToModel, *, size: int
) -> AsyncIterator[ModelEvent]:
    """The events of one call; its last one comes after its row is in the ledger. ``size`` is the body's, in bytes.

    Raises InvalidRequest for what cannot be carried, before anything is reserved.
    """
    snapshot, config = exchange.snapshot, way.config
    request = asked.to_model(model=config.upstream or way.model, max_output=config.max_output)
    provider = exchange.services.providers.get(snapshot, tenant, config.provider)
    size = max(size, request_bytes(request))
    call = Call(
        request_id=exchange.request_id,
        model=way.model,
        max_input=worst_input(size, images=_images(request), context_window=config.context_window),
        max_output=request.max_tokens,
        byo=config.provider in tenant.config.providers,
    )

    async def one(claim: Claim) -> AsyncGenerator[ModelEvent, None]:
        reservation = await exchange.services.meter.reserve(tenant, snapshot, call)
        metered = _Metered(reservation, prompt_tokens=prompt_tokens(request))
        async with closing(_settling(exchange, metered, provider.stream(request), claim)) as events:
            async for event in events:
                yield event

    hedge = exchange.services.providers.hedge(snapshot, tenant, way.model)
    async with closing(raced(one, hedge)) as events:
        async for event in events:
            yield event


async def _settling(
    exchange: Exchange, metered: _Metered, events: AsyncIterator[ProviderEvent], claim: Claim
) -> AsyncIterator[ModelEvent]:
    """The call's events; the last one comes after its row is in the ledger, and every other end is settled too."""
    outcome: Outcome = "cancelled"
    reached = True
    try:
        async with closing(events):
            async for event in events:
                if isinstance(event, Served):
                    # No word of the answer: whose it is may still be another's.
                    metered.served = event.tier
                    continue
                if not claim():
                    raise Superseded
                if isinstance(event, Finished):
                    yield await exchange.finish(metered.finish(event), name="settle")
                    return
                metered.saw(event)
                yield event
        raise UpstreamError("The model's answer ended too early.", retryable=True)
    except CarrelError as error:
        outcome = "cut" if metered.begun else "error"
        # As ADR 0065 says: what a vendor refused, or ended without a word, costs nothing.
        reached = isinstance(error, UpstreamTimeout) or not isinstance(error, UpstreamError)
        raise
    finally:
        if not metered.settled:
            await exchange.finish(metered.give_up(outcome, reached=reached), name="settle")


def prompt_tokens(request: ModelRequest) -> int:
    """About how many tokens ``request`` has."""
    return likely(request_bytes(request)) + _images(request) * IMAGE_TOKENS


def _images(request: ModelRequest) -> int:
    return images_in(request.messages)
