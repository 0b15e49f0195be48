"""Agents: one message in, a stream of events out; see `agents.events`.

The caller's closing of the stream ends everything behind it: the call upstream, the sandboxes, the reservation.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from carrel.agents.candidates import agent_of, fallbacks, primary
from carrel.agents.compactor import Compacted, Compactor, Place
from carrel.agents.entries import ErrorEntry
from carrel.agents.events import AgentEvent, Turn, TurnFinished
from carrel.agents.model_calls import ModelCalls
from carrel.agents.ports import Access, Egress, Environments, Precaution, PromptFiles, Providers
from carrel.agents.precaution import TurnPrecaution
from carrel.agents.session import OpenSession
from carrel.agents.sessions import Sessions
from carrel.agents.streams import closing
from carrel.agents.tool_round import Asking, Bench, Limited
from carrel.agents.tools.toolbox import Toolbox
from carrel.agents.turn import Parts, TurnRun
from carrel.agents.turnstile import Turnstile
from carrel.agents.userland import TurnUserland
from carrel.agents.workspace import workspace_of
from carrel.clock import Clock
from carrel.declare.tenant import ALL_TOOLS
from carrel.errors import CarrelError, TenantSuspended
from carrel.ids import RequestId, SessionId
from carrel.policy.calls import ToolEnding, TurnMeter
from carrel.sandbox.protocol import EgressGate, Sandbox
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire.conversation import ToolCall

_log = structlog.get_logger(__name__)


class Agents:
    """Runs turns for all tenants. One instance, made by the composition root."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        providers: Providers,
        meter: TurnMeter,
        sandbox: Sandbox,
        environments: Environments,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        toolbox: Toolbox | None = None,
        egress: Egress | None = None,
        access: Access | None = None,
        precaution: Precaution | None = None,
        limited: Callable[[Tenant, ToolEnding], Awaitable[None]] | None = None,
        files: PromptFiles | None = None,
    ) -> None:
        self._sessions = sessions
        self._sandbox = sandbox
        self._environments = environments
        self._clock = clock
        self._tasks = tasks
        self._metrics = metrics
        self._toolbox = toolbox or Toolbox()
        self._egress = egress
        self._access = access
        self._precaution = precaution
        self._limited = limited
        self._files = files
        self._meter = meter
        self._calls = ModelCalls(providers=providers, meter=meter, tasks=tasks, clock=clock)
        self._compactor = Compactor(self._calls)
        self._editing = Turnstile("the workspace", max_waiting=10_000, wait_seconds=60)

    async def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        """One turn. Closing the iterator cancels it: what was said until then is kept, and settled.

        Raises NotFound (an agent, or with `turn.create` false a session, that there is not), Conflict (another
        agent's session), InvalidRequest, ModelNotAllowed, QuotaExceeded before anything is told, UpstreamError,
        StorageFull.
        """
        if tenant.suspended:
            raise TenantSuspended("This tenant is suspended; its operator can resume it.")
        agent = agent_of(tenant, turn.agent)
        if self._access is not None:
            granted = self._access.tools(tenant, turn.agent, turn.session_id)
            more = tuple(name for name in ALL_TOOLS if name in granted and name not in agent.tools)
            agent = agent.model_copy(update={"tools": (*agent.tools, *more)}) if more else agent
        workspace = workspace_of(tenant, session_id=turn.session_id)
        async with self._opened(tenant, turn) as session:
            userland = TurnUserland(self._environments, frozenset(tenant.config.packages), tasks=self._tasks)
            bench = Bench(
                tenant=tenant,
                agent=turn.agent,
                workspace=workspace,
                offered=tuple(agent.tools),
                access=self._asking(tenant, turn),
                limited=self._noting(tenant, turn),
                session=session,
                toolbox=self._toolbox,
                sandbox=self._sandbox,
                userland=userland,
                workers=self._sessions.workers,
                editing=self._editing.passing,
                gate=self._gate(tenant, turn),
                precaution=TurnPrecaution(self._precaution, tenant, workspace, label=f"session {turn.session_id}"),
            )
            files = () if self._files is None else await self._files.of(tenant, turn.agent)
            parts = Parts(self._calls, self._compactor, bench, self._tasks, self._clock, files)
            run = TurnRun(parts, snapshot, turn, agent)
            ending = "cancelled"
            try:
                async with closing(run.events()) as events:
                    async for event in events:
                        if isinstance(event, TurnFinished):
                            ending = "ok"
                        yield event
            except CarrelError as error:
                ending = error.code
                if run.accepted:
                    await _noted(session, error, turn.request_id)
                raise
            finally:
                self._metrics.turn(tenant.id, ending=ending)
                await userland.close()

    @asynccontextmanager
    async def _opened(self, tenant: Tenant, turn: Turn) -> AsyncIterator[OpenSession]:
        """The turn's session, counted among those of the tenant's that have a turn from its waiting on."""
        with self._meter.session(tenant, turn.session_id):
            async with self._sessions.open(tenant, turn.session_id, agent=turn.agent, create=turn.create) as session:
                yield session

    def _asking(self, tenant: Tenant, turn: Turn) -> Asking | None:
        access = self._access
        if access is None:
            return None

        async def ask(kind: str, what: str, reason: str, told: Callable[[str], None]) -> str:
            return await access.request(tenant, turn, kind=kind, what=what, reason=reason, told=told)

        return ask

    def _noting(self, tenant: Tenant, turn: Turn) -> Limited | None:
        limited = self._limited
        if limited is None:
            return None

        async def note(call: ToolCall, ending: str, seconds: float) -> None:
            it = ToolEnding(
                request_id=turn.request_id, session_id=turn.session_id, agent=turn.agent, tool=call.name[:64],
                call_id=call.id[:128], ending=ending, seconds=round(seconds, 3),
            )  # fmt: skip
            await limited(tenant, it)

        return note

    def _gate(self, tenant: Tenant, turn: Turn) -> EgressGate | None:
        if self._egress is None:
            return None
        return self._egress.gate(
            tenant, agent=turn.agent, session_id=turn.session_id, member=tenant.own, request_id=turn.request_id
        )

    async def compact(
        self, tenant: Tenant, snapshot: Snapshot, session_id: SessionId, *, request_id: RequestId
    ) -> Compacted | None:
        """Fold up all but the newest of a session now; None where there is nothing to fold. Raises NotFound."""
        async with self._sessions.open(tenant, session_id) as session:
            agent = agent_of(tenant, session.header.agent)
            candidates = (primary(snapshot, tenant, agent), *fallbacks(snapshot, tenant, agent))
            return await self._compactor.compact(Place(session, tenant, snapshot, candidates, request_id))


async def _noted(session: OpenSession, error: CarrelError, request_id: RequestId) -> None:
    """Keep in the transcript why a turn ended; a disk that is full keeps no more words about itself."""
    try:
        await session.append(ErrorEntry(code=error.code, message=error.message, request_id=request_id))
    except CarrelError as second:
        _log.warning("an error could not be written down", session=session.id, error=second.message)
