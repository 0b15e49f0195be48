"""Agents and all around them: a scripted model or the demo, a meter that remembers, a runner that really runs."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from carrel.agents.events import AgentEvent, AnswerDelta, Turn, TurnFinished
from carrel.agents.ports import Providers
from carrel.agents.run import Agents
from carrel.agents.sessions import Sessions
from carrel.agents.streams import closing
from carrel.clock import SystemClock
from carrel.declare.gateway import ModelConfig
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError
from carrel.ids import RequestId, SessionId
from carrel.policy.calls import Call, Outcome, ToolEnding
from carrel.policy.models import allowed
from carrel.providers.demo import DemoProvider
from carrel.providers.protocol import Provider
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import Message, Text, ToolCall
from tests.fakes.model import ScriptedProvider
from tests.fakes.sandbox import FakeEnvironments, FakeSandbox
from tests.fakes.tenants import make_snapshot, make_tenant


@dataclass
class Settled:
    """How a reservation was settled, once or more often than it should be."""

    call: Call
    endings: list[tuple[TokenCounts, Outcome, bool]] = field(default_factory=list)
    tool_calls: int = 0
    failure: CarrelError | None = None

    async def settle(self, usage: TokenCounts, *, outcome: Outcome, provider_request_id: str | None = None,
                     tool_calls: int = 0, estimated: bool = False) -> None:  # fmt: skip
        self.endings.append((usage, outcome, estimated))
        self.tool_calls = tool_calls
        if self.failure is not None:
            raise self.failure


@dataclass
class RecordingMeter:
    """Lets calls through until ``refuse`` says otherwise for the number of a call, counted from 1."""

    refuse: Callable[[int], CarrelError | None] = lambda number: None
    settle_failure: CarrelError | None = None
    calls: list[Settled] = field(default_factory=list)
    asked: int = 0
    limited: list[ToolEnding] = field(default_factory=list)

    async def tool_ended(self, tenant: Tenant, it: ToolEnding) -> None:
        self.limited.append(it)

    async def admit_request(self, tenant: Tenant) -> None:
        return

    def session(self, tenant: Tenant, session_id: SessionId) -> AbstractContextManager[None]:
        return nullcontext()

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> Settled:
        self.asked += 1
        refusal = self.refuse(self.asked)
        if refusal is not None:
            raise refusal
        made = Settled(call, failure=self.settle_failure)
        self.calls.append(made)
        return made

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes in the order of the calls; every call was settled exactly once."""
        assert all(len(call.endings) == 1 for call in self.calls)
        return [call.endings[0][1] for call in self.calls]


class DemoProviders:
    """The real demo provider, as every provider."""

    def get(self, snapshot: Snapshot, tenant: Tenant, provider_name: str) -> Provider:
        allowed(snapshot, tenant, "demo")
        return DemoProvider(provider_name)

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> None:
        return None


@dataclass
class House:
    """Agents of one tenant."""

    tenant: Tenant
    snapshot: Snapshot
    agents: Agents
    sessions: Sessions
    meter: RecordingMeter
    sandbox: FakeSandbox
    environments: FakeEnvironments
    tasks: Tasks
    state: Path

    def turn(self, text: str, *, session: str = "s1", agent: str = "main", messages: Sequence[Message] | None = None,
             **more: Any) -> Turn:  # fmt: skip
        brought = tuple(messages) if messages is not None else (Message("user", (Text(text),)),)
        return Turn(agent, SessionId(session), brought, RequestId("req_1"), **more)

    async def say(self, text: str, **more: Any) -> list[AgentEvent]:
        """All events of one turn."""
        return await self.play(self.turn(text, **more))

    async def play(self, turn: Turn) -> list[AgentEvent]:
        """All events of ``turn``."""
        async with closing(self.agents.run(self.tenant, self.snapshot, turn)) as events:
            return [event async for event in events]

    def path(self, session: str = "s1") -> Path:
        """The transcript's file."""
        return self.state / "tenants" / self.tenant.id / "sessions" / f"{session}.jsonl"

    def lines(self, session: str = "s1") -> list[dict[str, Any]]:
        """The transcript's lines."""
        return [json.loads(line) for line in self.path(session).read_text().splitlines()]

    def workspace(self, name: str = "sandbox") -> Path:
        """The workspace on the host."""
        path = self.state / "tenants" / self.tenant.id / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@asynccontextmanager
async def house(
    state: Path, providers: Providers | None = None, *, meter: RecordingMeter | None = None,
    runner: FakeSandbox | None = None, environments: FakeEnvironments | None = None,
    gateway: dict[str, Any] | None = None, **config: Any,
) -> AsyncIterator[House]:  # fmt: skip
    """Agents over ``providers`` (the demo by default) for one tenant that is configured by ``config``."""
    tenant = make_tenant(state, **config)
    clock, tasks = SystemClock(), Tasks("agents")
    sessions = Sessions(clock=clock)
    meter, sandbox = meter or RecordingMeter(), runner or FakeSandbox()
    environments = environments or FakeEnvironments()
    agents = Agents(
        sessions=sessions, providers=providers or DemoProviders(), meter=meter, sandbox=sandbox,
        environments=environments, clock=clock, tasks=tasks, metrics=Metrics(), limited=meter.tool_ended,
    )  # fmt: skip
    snapshot = make_snapshot(tenant, **(gateway or {}))
    try:
        yield House(tenant, snapshot, agents, sessions, meter, sandbox, environments, tasks, state)
        assert len(tasks) == 0, "tasks outlive their turn"
    finally:
        await tasks.close()
        await sessions.close()
        tenant.root.close()


def scripted(*script: Any) -> ScriptedProvider:
    """A provider that plays ``script``."""
    return ScriptedProvider(script)


def models(window: int = 32_768, output: int = 4_096,
           inputs: tuple[Literal["text", "image"], ...] = ("text",)) -> dict[str, ModelConfig]:  # fmt: skip
    """Declared models: `demo` as given, and `second` of another provider."""
    return {
        "demo": ModelConfig(provider="demo", context_window=window, max_output=output, inputs=inputs),
        "second": ModelConfig(provider="other", context_window=window, max_output=output),
    }


def call(name: str, call_id: str = "c1", **arguments: Any) -> ToolCall:
    """A tool call."""
    return ToolCall(call_id, name, json.dumps(arguments))


def answer(events: Sequence[AgentEvent]) -> TurnFinished:
    """The end of a turn, with what was told in pieces checked against it."""
    finished = events[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.text == "".join(event.text for event in events if isinstance(event, AnswerDelta))
    return finished
