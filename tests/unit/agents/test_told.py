"""Turns as events."""

from pathlib import Path
from typing import Any

import pytest

from carrel.agents.events import AnswerDelta, Notice, ThinkingPiece, ToolFinished, ToolOutput, ToolStarted, Turn
from carrel.agents.told import MOST, ToldAgents, told
from carrel.errors import Conflict
from carrel.events.hub import Hub, Subscription
from carrel.ids import RequestId, SessionId
from carrel.wire.conversation import Message, Text
from tests.fakes.clock import FakeClock
from tests.fakes.edge import FakeAgents, SessionBook
from tests.fakes.tenants import make_snapshot, make_tenant


async def heard(tmp_path: Path, text: str, *, stop_after: int | None = None) -> list[str]:
    tenant = make_tenant(tmp_path)
    hub, kinds, agents = Hub(clock=FakeClock()), [], FakeAgents(SessionBook(), error=Conflict("no"))
    hub.subscribe(tenant, Subscription(None, (), lambda event: kinds.append(event.kind)))
    turn = Turn("main", SessionId("s"), (Message("user", (Text(text),)),), RequestId("r"))
    events = ToldAgents(agents, hub).run(tenant, make_snapshot(tenant), turn)
    try:
        for _ in range(stop_after or 100):
            await anext(events)
    except (StopAsyncIteration, Conflict):
        pass
    finally:
        await events.aclose()
    return kinds


async def test_a_turn_is_told_from_its_start_to_its_end(tmp_path: Path) -> None:
    assert await heard(tmp_path, "hello") == ["session.started", "session.text", "session.text", "session.finished"]


async def test_a_compaction_is_told(tmp_path: Path) -> None:
    tenant, book, kinds = make_tenant(tmp_path), SessionBook(), []
    hub = Hub(clock=FakeClock())
    hub.subscribe(tenant, Subscription(None, (), lambda event: kinds.append(event.kind)))
    await book.create(tenant, "main", session_id=SessionId("s"))
    agents, snapshot = ToldAgents(FakeAgents(book), hub), make_snapshot(tenant)
    assert await agents.compact(tenant, snapshot, SessionId("s"), request_id=RequestId("r")) is None
    book.said[tenant.id, "s"] = [Message("user", (Text("x"),))]
    assert await agents.compact(tenant, snapshot, SessionId("s"), request_id=RequestId("r")) is not None
    assert kinds == ["session.compacted"]


async def test_a_failure_and_a_cancellation_are_told(tmp_path: Path) -> None:
    assert (await heard(tmp_path, "fail"))[-1] == "session.failed"
    assert (await heard(tmp_path / "x", "wait: 30", stop_after=1))[-1] == "session.cancelled"


@pytest.mark.parametrize(
    ("event", "kind", "payload"),
    [
        (AnswerDelta("a"), "text", {"text": "a"}),
        (ThinkingPiece("a"), "thinking", {"text": "a"}),
        (Notice("a"), "notice", {"text": "a"}),
        (ToolStarted("1", "shell", "{}"), "tool.started", {"id": "1", "name": "shell", "arguments": "{}"}),
        (ToolOutput("1", "x" * MOST * 2), "tool.output", {"id": "1", "text": "x" * MOST}),
        (
            ToolFinished("1", "shell", "ok", is_error=False, seconds=0.5), "tool.finished",
            {"id": "1", "name": "shell", "content": "ok", "isError": False, "durationMs": 500},
        ),
    ],
)  # fmt: skip
def test_every_event_has_its_kind(event: Any, kind: str, payload: dict[str, Any]) -> None:
    assert told(event) == (kind, payload)
