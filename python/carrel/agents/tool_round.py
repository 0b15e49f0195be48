"""The tool calls of one answer, side by side: told as they happen, on the disk before they are told to be over."""

import asyncio
import codecs
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import structlog

from carrel.agents.entries import ToolResultEntry
from carrel.agents.events import AgentEvent, Notice, ToolFinished, ToolOutput, ToolStarted
from carrel.agents.precaution import TurnPrecaution
from carrel.agents.session import OpenSession
from carrel.agents.tools.output import safe_text
from carrel.agents.tools.protocol import ToolOutcome, ToolSetting
from carrel.agents.tools.toolbox import Toolbox
from carrel.agents.userland import TurnUserland
from carrel.agents.workers import Workers
from carrel.clock import Clock
from carrel.sandbox.modes import longest
from carrel.sandbox.protocol import EgressGate, Sandbox
from carrel.tasks import Tasks
from carrel.tenancy.handle import Tenant
from carrel.wire.conversation import ToolCall

_log = structlog.get_logger(__name__)
SIDE_BY_SIDE: Final = 8
UNREAD_EVENTS: Final = 256
QUEUE_SECONDS: Final = 900.0
KILL_SECONDS: Final = 15.0
Asking = Callable[[str, str, str, Callable[[str], None]], Awaitable[str]]
"""Asks a person for something; gives the decision in words, and tells on the way what a person should know."""


Limited = Callable[[ToolCall, str, float], Awaitable[None]]
"""Writes down that a limit ended a call, by its name, after so many seconds."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tool calls of one turn share. ``offered`` are the tools that the agent has."""

    tenant: Tenant
    agent: str
    workspace: str
    offered: tuple[str, ...]
    session: OpenSession
    toolbox: Toolbox
    sandbox: Sandbox
    userland: TurnUserland
    workers: Workers
    editing: Callable[[Hashable], AbstractAsyncContextManager[None]]
    precaution: TurnPrecaution
    gate: EgressGate | None = None
    access: Asking | None = None
    limited: Limited | None = None


async def run_round(
    bench: Bench, calls: Sequence[ToolCall], *, tasks: Tasks, clock: Clock
) -> AsyncIterator[AgentEvent]:
    """Run ``calls``; ends when each has its result in the transcript. Closing it early kills what runs.

    Raises StorageFull where a result cannot be written.
    """
    work = _Round(bench, clock)
    running = [tasks.start(work.one(call), name=f"tool {number}") for number, call in enumerate(calls)]
    for task in running:
        task.add_done_callback(lambda _: work.events.put_nowait(None))
    left = len(running)
    try:
        while left:
            event = await work.events.get()
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for task in running:
            task.cancel()
        _, stuck = await asyncio.wait(running, timeout=KILL_SECONDS)
        if stuck:
            _log.error("tools did not stop", tenant=bench.tenant.id, count=len(stuck))
    for task in running:
        task.result()


class _Round:
    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.events: asyncio.Queue[AgentEvent | None] = asyncio.Queue()
        self._bench = bench
        self._clock = clock
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)
        self._loop = asyncio.get_running_loop()

    async def one(self, call: ToolCall) -> None:
        """Run one call and write its result down."""
        async with self._places:
            self.events.put_nowait(ToolStarted(call.id, call.name, call.arguments))
            started = self._clock.monotonic()
            outcome = await self._outcome(call)
            seconds = self._clock.monotonic() - started
            await self._bench.session.append(
                ToolResultEntry(
                    call_id=call.id,
                    name=call.name,
                    content=outcome.content,
                    is_error=outcome.is_error,
                    seconds=round(seconds, 3),
                )
            )
            if outcome.ending and self._bench.limited is not None:
                await self._bench.limited(call, outcome.ending, seconds)
            self.events.put_nowait(ToolFinished(call.id, call.name, outcome.content, outcome.is_error, seconds))

    async def _outcome(self, call: ToolCall) -> ToolOutcome:
        bench = self._bench
        setting = ToolSetting(
            tenant=bench.tenant,
            agent=bench.agent,
            workspace=bench.workspace,
            call_id=call.id,
            sandbox=bench.sandbox,
            userland=lambda: bench.userland.get(self._notice),
            workers=bench.workers,
            show=self._shower(call.id),
            editing=bench.editing,
            gate=bench.gate,
            access=self._access,
        )
        limit = QUEUE_SECONDS + longest(bench.tenant.config.sandbox)
        try:
            async with asyncio.timeout(limit):
                if call.name in bench.offered:
                    await bench.precaution.take(call.name, self._notice)
                return await bench.toolbox.call(call, setting, offered=bench.offered)
        except TimeoutError:
            return ToolOutcome(f"The call did not end within {limit:g} s and was given up.", is_error=True)
        except Exception:  # noqa: BLE001 - the root of a tool's run: the model reads that it failed
            _log.exception("a tool failed", tenant=bench.tenant.id, tool=call.name[:64])
            return ToolOutcome("The tool failed by a fault of the gateway; its operator finds it in the log.",
                               is_error=True)  # fmt: skip

    async def _access(self, kind: str, what: str, reason: str) -> str:
        if self._bench.access is None:
            return "Nobody can be asked here."
        return await self._bench.access(kind, what, reason, self._notice)

    def _notice(self, text: str) -> None:
        self.events.put_nowait(Notice(text))

    def _shower(self, call_id: str) -> Callable[[bytes], None]:
        """What takes a running tool's output, from any thread. Who does not read along misses some of it."""
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

        def show(piece: bytes) -> None:
            self._loop.call_soon_threadsafe(self._show, call_id, decoder.decode(piece))

        return show

    def _show(self, call_id: str, text: str) -> None:
        if text and self.events.qsize() < UNREAD_EVENTS:
            self.events.put_nowait(ToolOutput(call_id, safe_text(text)))
