"""A turn asked for and waited for: what `sessions.send`, a job of the schedule and a channel do alike.

A turn that is being waited for can be cancelled from elsewhere by its session; what was said until then is kept.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from carrel.agents.events import AgentEvent, Notice, ToolFinished, Turn, TurnFinished
from carrel.agents.streams import closing
from carrel.errors import CarrelError, Conflict, InternalError
from carrel.ids import SessionId, TenantId
from carrel.tasks import Tasks
from carrel.tenancy.handle import Snapshot, Tenant

END_SECONDS: Final = 60.0


class TurnCancelled(Conflict):
    """The turn was cancelled by somebody else than whoever waited for it."""

    code = "turn_cancelled"


class Runs(Protocol):
    """Runs turns."""

    def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncIterator[AgentEvent]:
        """See `agents.run`."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """A turn that is over."""

    finished: TurnFinished
    tools: tuple[ToolFinished, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(eq=False, slots=True)
class _Running:
    task: "asyncio.Task[Said | CarrelError]"
    cancelled: bool = False


class Sends:
    """Turns that somebody waits for, by session."""

    def __init__(self, agents: Runs, *, tasks: Tasks) -> None:
        self._agents = agents
        self._tasks = tasks
        self._running: dict[tuple[TenantId, str | None, SessionId], list[_Running]] = {}

    async def send(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> Said:
        """Run ``turn`` to its end. Raises what the turn raises, and TurnCancelled."""
        key = (tenant.id, tenant.own, turn.session_id)
        running = _Running(self._tasks.start(self._collected(tenant, snapshot, turn), name="send"))
        self._running.setdefault(key, []).append(running)
        try:
            outcome = await asyncio.shield(running.task)
        except asyncio.CancelledError:
            if running.cancelled and running.task.cancelled():
                raise TurnCancelled("The turn was cancelled; what was said until then is in the session.") from None
            running.task.cancel()
            await asyncio.wait([running.task], timeout=END_SECONDS)
            raise
        finally:
            self._running[key].remove(running)
            if not self._running[key]:
                del self._running[key]
        if isinstance(outcome, CarrelError):
            raise outcome
        return outcome

    def cancel(self, tenant: Tenant, session_id: SessionId) -> int:
        """Cancel the turns of a session that are waited for, those in the queue too; how many there were."""
        waiting = [one for one in self._running.get((tenant.id, tenant.own, session_id), ()) if not one.cancelled]
        for one in waiting:
            one.cancelled = True
            one.task.cancel()
        return len(waiting)

    async def _collected(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> Said | CarrelError:
        """The turn's end, or why there is none: an error here is the waiting caller's, and no failure of the task."""
        tools: list[ToolFinished] = []
        notices: list[str] = []
        try:
            async with closing(self._agents.run(tenant, snapshot, turn)) as events:
                async for event in events:
                    match event:
                        case ToolFinished():
                            tools.append(event)
                        case Notice(text):
                            notices.append(text)
                        case TurnFinished():
                            return Said(event, tuple(tools), tuple(notices))
        except CarrelError as error:
            return error
        return InternalError("The agent's turn ended without an answer.")
