"""One call of a model, with those to fall back to: reserved before, streamed, and settled before its end is told.

Whatever becomes of a call (answered, refused, cut, cancelled) it is settled once, and then `Ask.ended` is told, in a
task that no cancellation reaches.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from carrel.agents.candidates import Candidate
from carrel.agents.events import Notice
from carrel.agents.history import sound
from carrel.agents.ports import Providers
from carrel.agents.sizes import images_in, request_bytes
from carrel.agents.streams import closing
from carrel.agents.workers import to_the_end
from carrel.clock import Clock
from carrel.declare.rate_card import Tier, TokenCounts
from carrel.errors import CarrelError, UpstreamError, UpstreamTimeout
from carrel.ids import RequestId, SessionId
from carrel.policy.calls import Call, Meter, Outcome, Reservation
from carrel.policy.estimate import IMAGE_TOKENS, filled, likely, worst_input
from carrel.providers.hedged import Claim, Superseded, raced
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import (
    Finished,
    Message,
    ModelEvent,
    ModelRequest,
    Served,
    Text,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallEnd:
    """How one call ended. ``message`` is the whole answer, or what came of it (None for nothing)."""

    candidate: Candidate
    outcome: Outcome
    message: Message | None
    finished: Finished | None
    usage: TokenCounts
    estimated: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a model. ``request`` makes the request for a candidate.

    ``accepted`` is awaited when the first call was let through and before it is made; ``ended`` when one is settled.
    ``taken`` are tool call ids that the history has already.
    """

    tenant: Tenant
    snapshot: Snapshot
    request_id: RequestId
    session_id: SessionId
    agent: str
    candidates: Sequence[Candidate]
    request: Callable[[Candidate], ModelRequest]
    accepted: Callable[[], Awaitable[None]]
    ended: Callable[[CallEnd], Awaitable[None]]
    taken: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Attempt:
    """One candidate being asked."""

    ask: Ask
    candidate: Candidate
    request: ModelRequest
    reservation: Reservation
    prompt_tokens: int
    started: float
    pieces: list[str] = field(default_factory=list)
    thought: int = 0
    called: int = 0
    served: Tier | None = None
    begun: bool = False
    sent: bool = False

    def saw(self, event: ModelEvent) -> None:
        """Note what came. A call that wants tools has begun with their first piece: nobody else is asked then."""
        self.begun = True
        match event:
            case TextDelta(text):
                self.pieces.append(text)
            case ThinkingDelta(text):
                self.thought += len(text.encode("utf-8", "replace"))
            case ToolDelta(arguments=text):
                self.called += len(text.encode("utf-8", "replace"))

    def used(self, said: TokenCounts | None) -> tuple[TokenCounts, bool]:
        """What was used, and whether it is estimated: where the vendor does not say, or not all of it."""
        words = len("".join(self.pieces).encode("utf-8", "replace"))
        return filled(
            said, prompt=self.prompt_tokens, output=likely(words + self.called), reasoning=likely(self.thought),
            served=self.served,
        )  # fmt: skip

    def whole(self, finished: Finished, *, now: float) -> CallEnd:
        """The end of a whole answer."""
        message = sound(finished.message, taken=self.ask.taken)
        usage, estimated = self.used(finished.usage)
        return CallEnd(self.candidate, "ok", message, finished, usage, estimated, now - self.started)

    def broken(self, outcome: Outcome, *, reached: bool, now: float) -> CallEnd:
        """The end of an answer that broke off. A call that reached no vendor, or that one refused, used nothing."""
        usage = self.used(None)[0] if reached or self.begun else TokenCounts()
        said = "".join(self.pieces)
        message = sound(Message("assistant", (Text(said),))) if said.strip() else None
        return CallEnd(self.candidate, outcome, message, None, usage, reached or self.begun, now - self.started)


class ModelCalls:
    """Makes calls, metered."""

    def __init__(self, *, providers: Providers, meter: Meter, tasks: Tasks, clock: Clock) -> None:
        self._providers = providers
        self._meter = meter
        self._tasks = tasks
        self._clock = clock

    async def stream(self, ask: Ask) -> AsyncIterator[TextDelta | ThinkingDelta | Notice | CallEnd]:
        """The answer of the first candidate that begins one, ending in its CallEnd.

        Raises QuotaExceeded before a call, and the last candidate's error where none answers.
        """
        for number, candidate in enumerate(ask.candidates, 1):
            failure: UpstreamError | None = None
            begun = False
            try:
                async with closing(self._hedged(ask, candidate)) as events:
                    async for event in events:
                        begun = True
                        if isinstance(event, TextDelta | ThinkingDelta | CallEnd):
                            yield event
                return
            except UpstreamError as error:
                if begun or number == len(ask.candidates):
                    raise
                failure = error
            following = ask.candidates[number]
            _log.warning("falling back to the next model", tenant=ask.tenant.id, model=candidate.name,
                         next=following.name, error=failure.message)  # fmt: skip
            yield Notice(f"{failure.message.rstrip('.')}. Going on with {following.name}.")

    async def _hedged(self, ask: Ask, candidate: Candidate) -> AsyncIterator[ModelEvent | CallEnd]:
        """One candidate's answer, asked for twice where that is declared and it does not begin."""
        attempts: list[_Attempt] = []

        async def one(claim: Claim) -> AsyncGenerator[ModelEvent | CallEnd, None]:
            attempt = await self._reserved(ask, candidate)
            attempts.append(attempt)
            async with closing(self._answer(ask, attempt, claim, first=len(attempts) == 1)) as events:
                async for event in events:
                    yield event

        hedge = self._providers.hedge(ask.snapshot, ask.tenant, candidate.name)
        async with closing(raced(one, hedge, may=lambda: bool(attempts) and attempts[0].sent)) as events:
            async for event in events:
                yield event

    async def _reserved(self, ask: Ask, candidate: Candidate) -> _Attempt:
        request = ask.request(candidate)
        size, images = request_bytes(request), images_in(request.messages)
        call = Call(
            request_id=ask.request_id,
            model=candidate.name,
            max_input=worst_input(size, images=images, context_window=candidate.config.context_window),
            max_output=request.max_tokens,
            session_id=ask.session_id,
            agent=ask.agent,
            byo=candidate.byo,
        )
        reservation = await self._meter.reserve(ask.tenant, ask.snapshot, call)
        prompt = min(likely(size) + images * IMAGE_TOKENS, candidate.config.context_window)
        return _Attempt(ask, candidate, request, reservation, prompt, self._clock.monotonic())

    async def _answer(
        self, ask: Ask, attempt: _Attempt, claim: Claim, *, first: bool
    ) -> AsyncIterator[ModelEvent | CallEnd]:  # fmt: skip
        """One call's answer. A call that was reserved is settled on every way out of here.

        ``first``: what came in is yet to be accepted. The answer is given up where ``claim`` says that it is another's.
        """
        outcome: Outcome = "cancelled"
        reached, end = False, None
        try:
            if first:
                await ask.accepted()
            provider = self._providers.get(ask.snapshot, ask.tenant, attempt.candidate.config.provider)
            reached = attempt.sent = True
            async with closing(provider.stream(attempt.request)) as events:
                async for event in events:
                    if isinstance(event, Served):
                        # No word of the answer: whose it is may still be another's.
                        attempt.served = event.tier
                        continue
                    if not claim():
                        raise Superseded
                    if isinstance(event, Finished):
                        attempt.begun = True
                        end = attempt.whole(event, now=self._clock.monotonic())
                        await self._settle(attempt, end)
                        break
                    attempt.saw(event)
                    yield event
            if end is None:
                raise UpstreamError("The model's answer ended too early.", retryable=True)
            yield end
        except CarrelError as error:
            outcome = "cut" if attempt.begun else "error"
            reached = isinstance(error, UpstreamTimeout)
            raise
        except (asyncio.CancelledError, GeneratorExit, Superseded):
            raise
        except BaseException:
            outcome = "error"
            raise
        finally:
            if end is None:
                await self._settle(attempt, attempt.broken(outcome, reached=reached, now=self._clock.monotonic()))

    async def _settle(self, attempt: _Attempt, end: CallEnd) -> None:
        await to_the_end(self._tasks, self._ending(attempt, end), name=f"settle {attempt.ask.request_id}")

    async def _ending(self, attempt: _Attempt, end: CallEnd) -> None:
        """Write the ledger's row, then the transcript's lines; the row's failure does not cost the transcript."""
        message = end.message
        try:
            await attempt.reservation.settle(
                end.usage,
                outcome=end.outcome,
                provider_request_id=end.finished.provider_request_id if end.finished is not None else None,
                tool_calls=sum(isinstance(block, ToolCall) for block in message.content) if message is not None else 0,
                estimated=end.estimated,
            )
        finally:
            await attempt.ask.ended(end)
