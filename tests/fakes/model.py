"""A provider that plays a script: for each call what it says, how it fails, or how long it takes."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from carrel.declare.rate_card import Tier, TokenCounts
from carrel.errors import CarrelError
from carrel.providers.hedged import Hedge
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import (
    Block,
    Finished,
    Message,
    ModelEvent,
    ModelRequest,
    ProviderEvent,
    Served,
    StopReason,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
)

USED = TokenCounts(input=10, output=5)


@dataclass(frozen=True)
class Play:
    """One call: ``text`` in pieces of 4, then ``calls``. ``error`` is raised after ``error_after`` pieces; ``hold``
    waits there instead, for ever.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    usage: TokenCounts | None = USED
    stop: StopReason | None = None
    thinking: str = ""
    error: CarrelError | None = None
    error_after: int = 0
    hold: bool = False
    provider_request_id: str | None = "vendor-1"
    served: Tier | None = None


@dataclass
class ScriptedProvider:
    """Plays its script call by call, the last one for ever. Remembers requests, and how many were closed early."""

    script: Sequence[Play | Callable[[ModelRequest], Play]] = (Play("hello"),)
    name: str = "scripted"
    requests: list[ModelRequest] = field(default_factory=list)
    open_calls: int = 0
    closed_early: int = 0
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    hedging: Hedge | None = None

    def get(self, snapshot: Snapshot, tenant: Tenant, provider_name: str) -> "ScriptedProvider":
        """Itself, as the provider of every name."""
        return self

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> Hedge | None:
        """As it is told, the same for every model."""
        return self.hedging

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ProviderEvent, None]:
        chosen = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        play = chosen(request) if callable(chosen) else chosen
        self.open_calls += 1
        ended = False
        try:
            if play.served is not None:
                yield Served(play.served)
            events: list[ModelEvent] = [ThinkingDelta(play.thinking)] if play.thinking else []
            events += [TextDelta(play.text[at : at + 4]) for at in range(0, len(play.text), 4)]
            for number in range(len(events) + 1):
                if (play.error is not None or play.hold) and number == play.error_after:
                    await self._stopped(play)
                if number < len(events):
                    await asyncio.sleep(0)
                    yield events[number]
            ended = True
            blocks: list[Block] = [Thinking(play.thinking, "signed")] if play.thinking else []
            blocks += [Text(play.text)] if play.text else []
            stop = play.stop or ("tool_calls" if play.calls else "end")
            message = Message("assistant", (*blocks, *play.calls))
            yield Finished(message, stop, play.usage, play.provider_request_id)
        finally:
            self.open_calls -= 1
            if not ended and play.error is None:
                self.closed_early += 1

    async def _stopped(self, play: Play) -> None:
        if play.error is not None:
            raise play.error
        self.holding.set()
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        return
