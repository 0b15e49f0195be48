"""One turn: the model is asked, its tools are run, and it is asked again, until it answers.

What is told is on the disk before: the user's message when the model is asked, each result when its call is over, the
answer and its ledger row when the turn is.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from carrel.agents.candidates import Candidate, fallbacks, primary, require_images
from carrel.agents.compaction import fitted, room, tokens_of
from carrel.agents.compactor import Compactor, Place, call_entry
from carrel.agents.entries import (
    CompactionEntry,
    Entry,
    MessageEntry,
    ModelCallEntry,
    ToolCallEntry,
    ToolResultEntry,
    stored,
)
from carrel.agents.events import AgentEvent, AnswerDelta, Notice, ThinkingPiece, Turn, TurnFinished
from carrel.agents.files import AgentFile
from carrel.agents.history import Said, call_ids, clean_text, for_model, history, since_reset, unanswered
from carrel.agents.incoming import taken
from carrel.agents.model_calls import Ask, CallEnd, ModelCalls
from carrel.agents.prompt import system_prompt
from carrel.agents.sizes import AROUND, images_in, text_of, tool_bytes
from carrel.agents.streams import closing
from carrel.agents.tool_round import Bench, run_round
from carrel.clock import Clock
from carrel.declare.rate_card import TokenCounts
from carrel.declare.tenant import Agent
from carrel.errors import InternalError, QuotaExceeded
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot
from carrel.wire.conversation import Message, ModelRequest, StopReason, Text, TextDelta, ThinkingDelta, ToolCall

_log = structlog.get_logger(__name__)
NOT_RUN: Final = "Not run: the turn ended before."


@dataclass(frozen=True, slots=True)
class Parts:
    """What a turn works with."""

    calls: ModelCalls
    compactor: Compactor
    bench: Bench
    tasks: Tasks
    clock: Clock
    files: tuple[AgentFile, ...] = ()


class TurnRun:
    """A turn of ``agent`` in the session that ``parts.bench`` holds open."""

    def __init__(self, parts: Parts, snapshot: Snapshot, turn: Turn, agent: Agent) -> None:
        self._parts = parts
        self._session = parts.bench.session
        self._tenant = parts.bench.tenant
        self._snapshot = snapshot
        self._turn = turn
        self._agent = agent
        self._system = system_prompt(agent, addition=turn.system, files=parts.files)
        self._tools = parts.bench.toolbox.specs(agent.tools)
        self._around = len(self._system.encode()) + tool_bytes(self._tools) + AROUND
        self._incoming: tuple[Message, ...] = ()
        self._candidates: tuple[Candidate, ...] = ()
        self._usage = TokenCounts()
        self._text: list[str] = []
        self._end: CallEnd | None = None
        self._model = ""
        self._model_calls = 0
        self._tool_calls = 0
        self.accepted = False

    async def events(self) -> AsyncIterator[AgentEvent]:
        """The turn, ending in TurnFinished. Raises what kept it from its answer, QuotaExceeded only before it began."""
        self._prepare()
        for problem in self._session.problems:
            yield Notice(f"Line {problem.line} of this session's transcript cannot be read and is left out.")
        stop: StopReason = "end"
        for number in range(1, self._agent.max_turns + 1):
            last = number == self._agent.max_turns
            try:
                async with closing(self._answer(last=last)) as answer:
                    async for event in answer:
                        yield event
            except QuotaExceeded as error:
                if not self.accepted:
                    raise
                reason = f"Stopped: {error.message}"
            else:
                calls = self._calls_wanted()
                if not calls:
                    stop = self._stop()
                    break
                if not last:
                    self._tool_calls += len(calls)
                    async with closing(run_round(self._parts.bench, calls, tasks=self._parts.tasks,
                                                 clock=self._parts.clock)) as results:  # fmt: skip
                        async for event in results:
                            yield event
                    continue
                reason = f"Stopped: this agent may ask its model {number} times for one message. Say how to go on."
            for event in await self._stopped_short(reason):
                yield event
            stop = "length"
            break
        yield self._finished(stop)

    def _prepare(self) -> None:
        """Judge what can be judged before anything is taken; raises InvalidRequest, ModelNotAllowed and the like."""
        incoming = taken(self._turn.messages, begun=self._session.begun)
        first = primary(self._snapshot, self._tenant, self._agent)
        others = list(fallbacks(self._snapshot, self._tenant, self._agent))
        if images_in(incoming):
            require_images(first)
            others = [other for other in others if "image" in other.config.inputs]
        self._candidates = (first, *others)
        waiting = unanswered(self._session.history())
        repeated = self._session.begun and list(incoming) == waiting[-len(incoming) :]
        self._incoming = () if repeated or self._taken_before() else incoming

    def _taken_before(self) -> bool:
        """Whether a gateway that died had taken in this very request."""
        return self._turn.again and any(
            isinstance(entry, MessageEntry) and entry.request_id == self._turn.request_id
            for entry in self._session.entries
        )

    async def _answer(self, *, last: bool) -> AsyncIterator[AgentEvent]:
        """One answer of the model; ``last``: what tools it calls are not run."""
        for notice in await self._made_room():
            yield notice
        self._end = None
        said = 0
        async with closing(self._parts.calls.stream(self._ask(last=last))) as events:
            async for event in events:
                match event:
                    case TextDelta(text):
                        for piece in self._pieces(text, begins=not said):
                            yield AnswerDelta(piece)
                        said += len(text)
                    case ThinkingDelta(text):
                        yield ThinkingPiece(clean_text(text))
                    case Notice():
                        yield event
                    case CallEnd(message=message):
                        self._end = event
                        if not said and message is not None:
                            for piece in self._pieces(text_of(message), begins=True):
                                yield AnswerDelta(piece)

    def _pieces(self, text: str, *, begins: bool) -> list[str]:
        """What is told of ``text``: an empty line goes before it where it follows an earlier answer's."""
        pieces = [clean_text(text)] if text else []
        if pieces and begins and self._text:
            pieces.insert(0, "\n\n")
        self._text += pieces
        return pieces

    def _ask(self, *, last: bool) -> Ask:
        async def ended(end: CallEnd) -> None:
            await self._ended(end, last=last)

        return Ask(
            tenant=self._tenant,
            snapshot=self._snapshot,
            request_id=self._turn.request_id,
            session_id=self._session.id,
            agent=self._turn.agent,
            candidates=self._candidates,
            request=self._request,
            accepted=self._accept,
            ended=ended,
            taken=frozenset(call_ids(self._session.history())),
        )

    def _request(self, candidate: Candidate) -> ModelRequest:
        config = candidate.config
        messages = for_model(self._said(), provider=config.provider, images="image" in config.inputs)
        max_tokens = self._max_tokens(candidate)
        return ModelRequest(
            model=candidate.upstream,
            messages=fitted(messages, most=room(config.context_window, max_tokens), around=self._around),
            system=self._system,
            tools=self._tools,
            max_tokens=max_tokens,
            thinking=self._agent.thinking,
            temperature=self._turn.temperature,
        )

    def _max_tokens(self, candidate: Candidate) -> int:
        asked = min(self._turn.max_tokens or 1 << 31, self._agent.max_tokens or 1 << 31)
        return min(asked, candidate.config.max_output, candidate.config.context_window // 2)

    def _drafts(self) -> list[Entry]:
        """The lines of what came in, until it is taken."""
        if self.accepted:
            return []
        return [
            MessageEntry(role=m.role, content=stored(m), request_id=self._turn.request_id) for m in self._incoming
        ]  # fmt: skip

    def _said(self) -> list[Said]:
        """The history with what came in."""
        return history([*self._session.entries, *self._session.numbered(self._drafts())])

    async def _accept(self) -> None:
        """Take what came in: it is on the disk before the model is asked."""
        if not self.accepted:
            drafts = self._drafts()
            if drafts:
                await self._session.append(*drafts)
            self.accepted = True

    async def _ended(self, end: CallEnd, *, last: bool) -> None:
        self._usage += end.usage
        self._model_calls += 1
        self._model = end.candidate.name
        lines: list[Entry] = []
        config = end.candidate.config
        if end.message is not None and end.message.content:
            lines.append(
                MessageEntry(
                    role="assistant",
                    content=stored(end.message),
                    request_id=self._turn.request_id,
                    provider=config.provider,
                    model=end.candidate.name,
                    interrupted=end.outcome != "ok",
                )
            )
        lines.append(call_entry(end, request_id=self._turn.request_id, purpose="turn"))
        if end.message is not None and not last:
            lines += [ToolCallEntry(call_id=c.id, name=c.name) for c in end.message.content if isinstance(c, ToolCall)]
        await self._session.append(*lines)

    async def _made_room(self) -> Sequence[Notice]:
        """Compact the session where the next request would not fit the model's window."""
        candidate = self._candidates[0]
        if self._tokens() <= room(candidate.config.context_window, self._max_tokens(candidate)):
            return ()
        done = await self._parts.compactor.compact(
            Place(self._session, self._tenant, self._snapshot, self._candidates, self._turn.request_id)
        )
        if done is None:
            return ()
        self._usage += done.usage
        return (Notice(f"The conversation grew long: its first {done.messages} messages are now a summary."),)

    def _tokens(self) -> int:
        """About how many tokens the next request has: what the last call said it had, and an estimate of the rest."""
        said = self._said()
        for entry in reversed(since_reset(self._session.entries)):
            if isinstance(entry, CompactionEntry):
                break
            if isinstance(entry, ModelCallEntry) and entry.outcome == "ok" and not entry.estimated:
                return entry.usage.total + tokens_of([item.message for item in said if item.entry_id >= entry.id])
        return tokens_of([item.message for item in said], around=self._around)

    def _calls_wanted(self) -> list[ToolCall]:
        message = self._end.message if self._end is not None else None
        return [block for block in message.content if isinstance(block, ToolCall)] if message is not None else []

    def _stop(self) -> StopReason:
        finished = self._end.finished if self._end is not None else None
        return "end" if finished is None or finished.stop == "tool_calls" else finished.stop

    async def _stopped_short(self, reason: str) -> list[AgentEvent]:
        """End the turn without the model's last word, with a history that is whole."""
        lines: list[Entry] = [
            ToolResultEntry(call_id=call.id, name=call.name, content=NOT_RUN, is_error=True)
            for call in self._calls_wanted()
        ]
        text = f"[{reason}]"
        lines.append(
            MessageEntry(role="assistant", content=stored(Message("assistant", (Text(text),))),
                         request_id=self._turn.request_id)
        )  # fmt: skip
        await self._session.append(*lines)
        return [Notice(reason), *(AnswerDelta(piece) for piece in self._pieces(text, begins=True))]

    def _finished(self, stop: StopReason) -> TurnFinished:
        if self._end is None and stop == "end":
            raise InternalError("The agent's turn ended without an answer.")
        return TurnFinished(
            session_id=self._session.id,
            text="".join(self._text),
            stop=stop,
            usage=self._usage,
            model=self._model or self._candidates[0].name,
            model_calls=self._model_calls,
            tool_calls=self._tool_calls,
        )
