"""The edges' server on a real socket, over services that do little and remember what they were asked."""

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from carrel.agents.compactor import Compacted
from carrel.agents.events import AgentEvent, AnswerDelta, ToolFinished, ToolStarted, Turn, TurnFinished
from carrel.agents.sends import Sends
from carrel.agents.told import ToldAgents
from carrel.clock import SystemClock
from carrel.declare.admin_keys import AdminKey
from carrel.declare.base import Scope
from carrel.declare.gateway import ModelConfig, ProviderConfig
from carrel.declare.rate_card import TokenCounts
from carrel.errors import CarrelError, Conflict, NotFound
from carrel.events.hub import Hub
from carrel.http.changes import Changes
from carrel.http.rpc.keyed import Keyed
from carrel.http.server import Server
from carrel.http.services import Limits, Services
from carrel.ids import RequestId, SessionId, TenantId, new_session_id
from carrel.metering.account import QuotaState
from carrel.metering.invoice import Invoice, invoice
from carrel.metering.protocol import Call, Outcome
from carrel.metering.recount import Counting, Recount
from carrel.metering.report import ReportRow
from carrel.metering.rollups import Charged, Split, Sums
from carrel.policy.periods import Period
from carrel.policy.pricing import price_for
from carrel.providers.demo import DemoProvider
from carrel.providers.hedged import Hedge
from carrel.providers.protocol import Provider
from carrel.reconcile.quota_requests import QuotaRequests
from carrel.relay.answer import Answer, Caller
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.response import Relayed
from carrel.responses.service import Responses
from carrel.store.control_once import ControlOnceStore
from carrel.store.once import OnceStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.wire.conversation import Message, Text
from tests.fakes.administration import (
    FakeAccess,
    FakeAdministration,
    FakeAudit,
    FakePackages,
    FakeReconciler,
    FakeSandboxes,
    FakeSecrets,
    FakeSnapshots,
)
from tests.fakes.backups import FakeBackups
from tests.fakes.engines import running_engines
from tests.fakes.tenants import make_snapshot, make_tenant

ADMIN_KEY = "ak_ops_" + "a" * 32
READER_KEY = "ak_reader_" + "b" * 32


def token_of(tenant: str, digit: str = "1") -> str:
    """The token that the fake store knows for ``tenant``."""
    return f"tk_{tenant}_{digit * 32}"


@dataclass(frozen=True)
class Record:
    """A stored token."""

    tenant: TenantId
    name: str
    scopes: tuple[str, ...]
    expires: datetime | None
    prefix: str
    member: str | None = None


class TokenBook:
    """Tokens by digest, as the real store looks them up."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}

    def add(self, text: str, tenant: str, *, scopes: tuple[str, ...] = ("chat", "rpc", "admin"),
            expires: datetime | None = None, member: str | None = None) -> None:  # fmt: skip
        record = Record(TenantId(tenant), "default", scopes, expires, text[:-24], member)
        self._records[hashlib.sha256(text.encode()).hexdigest()] = record

    def end(self, text: str) -> None:
        """End a token by its text."""
        del self._records[hashlib.sha256(text.encode()).hexdigest()]

    def issue(self, tenant: Tenant, *, name: str, scopes: tuple[Scope, ...], member: str | None) -> tuple[str, Record]:
        text = f"tk_{tenant.id}_{secrets.token_hex(16)}"
        record = Record(tenant.id, name, scopes, None, text[:-24], member)
        self._records[hashlib.sha256(text.encode()).hexdigest()] = record
        return text, record

    def rotate(self, tenant: Tenant, *, name: str) -> tuple[str, Record]:
        old = self.revoke(tenant, name)
        return self.issue(tenant, name=name, scopes=old.scopes, member=old.member)  # type: ignore[arg-type] # as it was

    def revoke(self, tenant: Tenant, name: str) -> Record:
        for digest, record in self._records.items():
            if (record.tenant, record.name) == (tenant.id, name):
                return self._records.pop(digest)
        raise NotFound("There is no such token.")

    def verify(self, text: str, now: datetime) -> Record | None:
        return self.of_digest(hashlib.sha256(text.encode()).hexdigest(), now)

    def of_digest(self, digest: str, now: datetime) -> Record | None:
        found = self._records.get(digest)
        hmac.compare_digest(digest, digest)
        return None if found is None or (found.expires is not None and found.expires <= now) else found


@dataclass
class FakeReservation:
    """Remembers how it was settled."""

    call: Call
    settled: list[tuple[TokenCounts, Outcome, bool]] = field(default_factory=list)

    async def settle(self, usage: TokenCounts, *, outcome: Outcome, provider_request_id: str | None = None,
                     tool_calls: int = 0, estimated: bool = False) -> None:  # fmt: skip
        self.settled.append((usage, outcome, estimated))


def quota(
    name: str, used: int | Decimal, *, hard: int | Decimal | None = None, soft: int | Decimal | None = None
) -> QuotaState:
    """A quota in use, with nothing held."""
    return QuotaState(name, used, 0, hard, soft, None)


@dataclass
class FakeMeter:
    """Lets everything through unless told otherwise."""

    refusal: CarrelError | None = None
    admitted: int = 0
    reservations: list[FakeReservation] = field(default_factory=list)
    quotas: list[QuotaState] = field(default_factory=list)
    over: tuple[str, ...] = ()
    counted: Counting | None = None
    recounts: asyncio.Event | None = None

    async def admit_request(self, tenant: Tenant) -> None:
        self.admitted += 1
        if self.refusal is not None:
            raise self.refusal

    def soft_passed(self, tenant: TenantId) -> Sequence[str]:
        return self.over

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> FakeReservation:
        reservation = FakeReservation(call)
        self.reservations.append(reservation)
        return reservation

    async def report(self, tenant: Tenant, period: Period, *, split: Split | None = None) -> Sequence[ReportRow]:
        key = None if split is None else f"a-{split}"
        return [ReportRow(date(2026, 3, 1), tenant.id, "demo", 10, 5, 1, 0, 2, Decimal("0.000123"), key)]

    async def invoice(self, tenant: Tenant, snapshot: Snapshot, period: Period) -> Invoice:
        rates = price_for(snapshot.rate_card, "demo", byo=False)
        counts = TokenCounts(10, output=5)
        of = Charged("demo", rates.snapshot, snapshot.rate_card_hash, "pro", "p" * 64, False, 0)
        return invoice({of: Sums(2, counts, 0, rates.cost(counts))}, period)

    async def recount(self, tenant: Tenant) -> Recount:
        if self.recounts is not None:
            await self.recounts.wait()
        return Recount(7, (("2026-03-01", "demo"),))

    def counting(self, tenant: Tenant) -> Counting | None:
        return self.counted

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        return self.quotas


@dataclass
class FakeDisk:
    """What is taken of the disk, as it is set."""

    quotas: list[QuotaState] = field(default_factory=list)

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        return self.quotas

    async def taken(self, tenant: Tenant) -> tuple[int, int]:
        return 4096, 2


@dataclass
class Summary:
    """A session."""

    session_id: SessionId
    agent: str
    label: str | None = None
    created_at: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    updated_at: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    usage: TokenCounts = field(default_factory=lambda: TokenCounts(input=3, output=4))
    model: str | None = "demo"
    messages: int = 0


class SessionBook:
    """Sessions in memory, by tenant, or by tenant and member where members have their own."""

    def __init__(self) -> None:
        self.by_tenant: dict[str, dict[str, Summary]] = {}
        self.said: dict[tuple[str, str], list[Message]] = {}

    async def create(self, tenant: Tenant, agent: str, *, session_id: SessionId | None = None,
                     label: str | None = None) -> Summary:  # fmt: skip
        chosen = session_id or new_session_id()
        mine = self.by_tenant.setdefault(whose(tenant), {})
        if chosen in mine:
            raise Conflict("There is a session of that id.")
        mine[chosen] = Summary(chosen, agent, label)
        return mine[chosen]

    async def list(self, tenant: Tenant) -> Sequence[Summary]:
        return list(self.by_tenant.get(whose(tenant), {}).values())

    async def get(self, tenant: Tenant, session_id: SessionId) -> Summary:
        self._known(tenant, session_id)
        return self.by_tenant[whose(tenant)][session_id]

    async def preview(self, tenant: Tenant, session_id: SessionId, *, limit: int) -> Sequence[Message]:
        self._known(tenant, session_id)
        return self.said.get((whose(tenant), session_id), [])[-limit:]

    async def answered(self, tenant: Tenant, session_id: SessionId, request_id: RequestId) -> TurnFinished | None:
        return None

    async def reset(self, tenant: Tenant, session_id: SessionId) -> None:
        self._known(tenant, session_id)
        self.said.pop((whose(tenant), session_id), None)

    async def delete(self, tenant: Tenant, session_id: SessionId) -> None:
        self._known(tenant, session_id)
        del self.by_tenant[whose(tenant)][session_id]

    def _known(self, tenant: Tenant, session_id: SessionId) -> None:
        if session_id not in self.by_tenant.get(whose(tenant), {}):
            raise NotFound("No such session.")


def whose(tenant: Tenant) -> str:
    """The tenant, or the member of it who has sessions of their own."""
    return tenant.id if tenant.own is None else f"{tenant.id}/{tenant.own}"


@dataclass
class FakeAgents:
    """Echoes; ``wait: N`` takes N seconds in a tool; ``fail`` raises; remembers turns and cancellations."""

    sessions: SessionBook
    turns: list[Turn] = field(default_factory=list)
    members: list[str | None] = field(default_factory=list)
    cancelled: int = 0
    error: CarrelError | None = None

    async def compact(
        self, tenant: Tenant, snapshot: Snapshot, session_id: SessionId, *, request_id: RequestId
    ) -> Compacted | None:
        if session_id not in self.sessions.by_tenant.get(whose(tenant), {}):
            raise NotFound("No such session.")
        return Compacted(2, 100, "demo", TokenCounts()) if self.sessions.said.get((whose(tenant), session_id)) else None

    async def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncIterator[AgentEvent]:
        self.turns.append(turn)
        said = "".join(b.text for b in turn.messages[-1].content if isinstance(b, Text))
        mine = self.sessions.by_tenant.setdefault(whose(tenant), {})
        self.members.append(tenant.member)
        mine.setdefault(turn.session_id, Summary(turn.session_id, turn.agent))
        self.sessions.said.setdefault((whose(tenant), turn.session_id), []).extend(turn.messages)
        if self.error is not None and said == "fail":
            raise self.error
        try:
            if said.startswith("wait: "):
                yield ToolStarted("t1", "shell", '{"command": "sleep"}')
                await asyncio.sleep(float(said[6:]))
                yield ToolFinished("t1", "shell", "done", is_error=False, seconds=float(said[6:]))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        for piece in ("You said: ", said):
            yield AnswerDelta(piece)
        if self.error is not None and said == "fail late":
            raise self.error
        yield TurnFinished(turn.session_id, f"You said: {said}", "end", TokenCounts(7, 0, 0, 5, 0), "demo", 1, 0)


class FakeRelay:
    """Answers as a vendor would, with the body's size in it. ``callers`` are the kinds of those that it answered."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.callers: list[str] = []
        self.paths: list[str] = []
        self.error: CarrelError | None = None

    async def handle(self, request: web.BaseRequest, tenant: Tenant, snapshot: Snapshot, request_id: RequestId,
                     body: bytes, *, dialect: type[CallFields] = ChatFields) -> web.StreamResponse:  # fmt: skip
        relayed = Relayed(request)
        await relayed.introduce()
        answer = await self.pass_on(relayed, tenant, snapshot, request_id, body, fields=dialect.read(body))
        relayed.set_status(answer.status)
        return relayed

    async def pass_on(self, caller: Caller, tenant: Tenant, snapshot: Snapshot, request_id: RequestId,
                      body: bytes, *, fields: CallFields) -> Answer:  # fmt: skip
        self.bodies.append(body)
        self.callers.append(type(caller).__name__)
        self.paths.append(fields.path)
        if self.error is not None:
            raise self.error
        said = json.dumps({"id": "x", "object": "chat.completion", "size": len(body)}).encode()
        answer = Answer(caller, status=200, content_type="application/json", request_id=request_id)
        answer.begin(length=len(said))
        answer.finish(said)
        return answer


class OneProvider:
    """Gives the same provider for every name."""

    def __init__(self, provider: Provider | None = None) -> None:
        self.provider: Provider = provider or DemoProvider()
        self.hedging: Hedge | None = None

    def get(self, snapshot: Snapshot, tenant: Tenant, name: str) -> Provider:
        return self.provider

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> Hedge | None:
        return self.hedging


@dataclass
class Edge:
    """A running server and everything behind it."""

    server: Server
    services: Services
    tokens: TokenBook
    meter: FakeMeter
    disk: FakeDisk
    agents: FakeAgents
    relay: FakeRelay
    sessions: SessionBook
    directory: Directory
    socket_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def name_origins(self, *origins: str) -> None:
        """Let pages of these origins speak to the gateway."""
        self.configure(browser=self.directory.current.gateway.browser.model_copy(update={"origins": origins}))

    def configure(self, **gateway: Any) -> None:
        """Replace keys of `_gateway.yaml`."""
        current = self.directory.current
        self.directory.publish(replace(current, gateway=current.gateway.model_copy(update=gateway)))

    def publish(self, *tenants: Tenant) -> None:
        """Replace tenants in the snapshot."""
        current = self.directory.current
        self.directory.publish(replace(current, tenants={**current.tenants, **{t.id: t for t in tenants}}))


def edge_snapshot(*tenants: Tenant) -> Snapshot:
    """A snapshot with a demo model, one of a vendor of each dialect, and two admin keys."""
    return make_snapshot(
        *tenants,
        providers={
            "demo": ProviderConfig(kind="demo"),
            "vendor": ProviderConfig(kind="openai", base_url="http://127.0.0.1:9/v1"),
            "claude": ProviderConfig(kind="anthropic", base_url="http://127.0.0.1:9"),
        },
        models={
            "demo": ModelConfig(provider="demo", context_window=32_768, max_output=4_096),
            "vendor-large": ModelConfig(provider="vendor"),
            "claude-large": ModelConfig(provider="claude"),
        },
        admin_keys=(
            AdminKey(name="ops", sha256=hashlib.sha256(ADMIN_KEY.encode()).hexdigest()),
            AdminKey(name="reader", sha256=hashlib.sha256(READER_KEY.encode()).hexdigest(), scopes=("read",)),
        ),
        max_body_bytes=2 * 1024 * 1024,
    )


@asynccontextmanager
async def running_edge(
    state: Path, *, limits: Limits | None = None, tenants: Sequence[Tenant] = (), **overrides: Any
) -> AsyncIterator[Edge]:
    """A server on a free port of loopback and a control socket, with tenants ``acme`` and ``bravo`` by default."""
    chosen = list(tenants) or [make_tenant(state, "acme"), make_tenant(state, "bravo")]
    directory = Directory()
    directory.publish(edge_snapshot(*chosen))
    tokens = TokenBook()
    for tenant in chosen:
        tokens.add(token_of(tenant.id), tenant.id)
    sessions = SessionBook()
    meter, disk, agents, relay = FakeMeter(), FakeDisk(), FakeAgents(sessions), FakeRelay()
    hub, once, tasks = Hub(clock=SystemClock()), OnceStore(), Tasks("edge")
    responses = Responses(clock=SystemClock(), directory=directory, tasks=Tasks("responses"), settling=tasks)
    told = ToldAgents(overrides.pop("agents", agents), hub)
    sends = Sends(told, tasks=tasks)
    administration, audit = FakeAdministration(directory), FakeAudit()
    asked = QuotaRequests(clock=SystemClock(), audit=audit, declares=administration, hub=hub)
    fields: Mapping[str, Any] = {
        "quota_requests": asked, "directory": directory, "tokens": tokens, "agents": told, "sessions": sessions,
        "meter": meter,
        "relay": relay, "providers": OneProvider(), "administration": administration,
        "reconciler": FakeReconciler(), "audit": audit, "sandboxes": FakeSandboxes(),
        "secrets": FakeSecrets(), "packages": FakePackages(), "access": FakeAccess(), "snapshots": FakeSnapshots(),
        "disk": disk, "backups": FakeBackups(),
        "hub": hub, "sends": sends, "responses": responses,
        "keyed": Keyed(store=once, clock=SystemClock(), tasks=tasks), "metrics": Metrics(),
        "clock": SystemClock(), "version": "1.2.3", **overrides,
    }  # fmt: skip
    keys = ControlOnceStore(state)
    fields = {"changes": Changes(keys=keys, clock=SystemClock(), tasks=tasks), **fields}
    async with running_engines(
        state, directory, SystemClock(), hub=hub, sends=sends, tokens=tokens, audit=fields["audit"]
    ) as engines:
        services = Services(**{"engines": engines, **fields})
        server = Server(services, limits=limits)
        socket_path = state / "control.sock"
        await server.start("127.0.0.1", 0, socket_path)
        try:
            yield Edge(server, services, tokens, meter, disk, agents, relay, sessions, directory, socket_path)
        finally:
            await server.stop(0.2)
            await tasks.close()
            await once.close()
            await responses.close()
            await keys.close()
    for tenant in chosen:
        tenant.root.close()


def bearer(token: str) -> dict[str, str]:
    """The header that carries ``token``."""
    return {"Authorization": f"Bearer {token}"}


def chat_body(text: str, *, model: str = "agent:main", **more: Any) -> bytes:
    """A request body of a chat completion."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more}).encode()
