"""What the edges need of the house, as small protocols that the composition root satisfies."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from pydantic import BaseModel

from carrel.agents.compactor import Compacted
from carrel.agents.events import AgentEvent, Turn, TurnFinished
from carrel.agents.sends import Sends
from carrel.backup.target import Reach
from carrel.clock import Clock, SystemClock
from carrel.declare.rate_card import TokenCounts
from carrel.events.hub import Hub
from carrel.http.engines import Engines
from carrel.http.turns import Turns
from carrel.ids import RequestId, SessionId, TenantId
from carrel.mcp.proxy import McpProxy
from carrel.metering.account import QuotaState
from carrel.metering.invoice import Invoice
from carrel.metering.protocol import Call, Reservation
from carrel.metering.recount import Counting, Recount
from carrel.metering.report import ReportRow
from carrel.metering.rollups import Split
from carrel.policy.periods import Period
from carrel.providers.hedged import Hedge
from carrel.providers.protocol import Provider
from carrel.relay.answer import Answer
from carrel.relay.answer import Caller as RelayCaller
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.protocol import CallFields
from carrel.responses.service import Responses
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.tracing import Traces
from carrel.wire import backups, control, quotas, revisions, rpc
from carrel.wire.conversation import Message


class TokenRecord(Protocol):
    """What is stored of a tenant's token: it alone says whose it is and what it may."""

    @property
    def tenant(self) -> TenantId: ...
    @property
    def name(self) -> str: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...
    @property
    def expires(self) -> datetime | None: ...
    @property
    def member(self) -> str | None: ...
    @property
    def prefix(self) -> str: ...


class Tokens(Protocol):
    """Knows tokens by their digests."""

    def of_digest(self, digest: str, now: datetime) -> TokenRecord | None:
        """The record of a token, None where there is none or its time is over; a miss costs what a hit costs."""
        ...


class AgentRunner(Protocol):
    """Runs one turn of an agent."""

    async def compact(
        self, tenant: Tenant, snapshot: Snapshot, session_id: SessionId, *, request_id: RequestId
    ) -> Compacted | None:
        """Fold up all but the newest of a session; None where there is nothing to fold. Raises NotFound."""
        ...

    def run(self, tenant: Tenant, snapshot: Snapshot, turn: Turn) -> AsyncIterator[AgentEvent]:
        """The turn's events, ending in TurnFinished; closing the iterator cancels the turn."""
        ...


class Relay(Protocol):
    """Passes a call on to a provider that speaks the caller's own dialect."""

    async def handle(
        self,
        request: web.BaseRequest,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        dialect: type[CallFields] = ChatFields,
    ) -> web.StreamResponse:
        """The vendor's answer as it comes, metered; ``dialect`` is the endpoint's."""
        ...


class DirectRelay(Relay, Protocol):
    """A relay that answers callers of another kind than aiohttp's too."""

    async def pass_on(
        self,
        caller: RelayCaller,
        tenant: Tenant,
        snapshot: Snapshot,
        request_id: RequestId,
        body: bytes,
        *,
        fields: CallFields,
    ) -> Answer:
        """As `handle`; ``fields`` are those of ``body``."""
        ...


class Metering(Protocol):
    """Quotas, the ledger and its report."""

    async def admit_request(self, tenant: Tenant) -> None:
        """Count one request; raises QuotaExceeded."""
        ...

    def soft_passed(self, tenant: TenantId) -> Sequence[str]:
        """The soft quotas that the tenant has passed, as of its last request."""
        ...

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> Reservation:
        """See `metering.protocol`."""
        ...

    async def report(self, tenant: Tenant, period: Period, *, split: Split | None = None) -> Sequence[ReportRow]:
        """The period's rows by day and model, and by what ``split`` says."""
        ...

    async def invoice(self, tenant: Tenant, snapshot: Snapshot, period: Period) -> Invoice:
        """Every charge of the period with its arithmetic."""
        ...

    async def recount(self, tenant: Tenant) -> Recount:
        """Every row of the tenant's ledger counted anew."""
        ...

    def counting(self, tenant: Tenant) -> Counting | None:
        """How far the recount of the tenant's ledger is that runs or waits, None where none does."""
        ...

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        """Every quota that is declared for the tenant, with what is used of it now."""
        ...


class DiskUse(Protocol):
    """What tenants take of the disk."""

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        """Every quota of the disk that is declared for the tenant, with what is taken of it now."""
        ...

    async def taken(self, tenant: Tenant) -> tuple[int, int]:
        """Bytes and entries of all its workspaces, whatever is declared."""
        ...


class SessionSummary(Protocol):
    """One line of a tenant's list of sessions."""

    @property
    def session_id(self) -> SessionId: ...
    @property
    def agent(self) -> str: ...
    @property
    def label(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def updated_at(self) -> datetime: ...
    @property
    def usage(self) -> TokenCounts: ...
    @property
    def model(self) -> str | None: ...
    @property
    def messages(self) -> int: ...


class Sessions(Protocol):
    """A tenant's conversations. Every method raises NotFound for a session that is not this tenant's."""

    async def create(
        self, tenant: Tenant, agent: str, *, session_id: SessionId | None = None, label: str | None = None
    ) -> SessionSummary:
        """A new one; raises Conflict where the id is taken."""
        ...

    async def list(self, tenant: Tenant) -> Sequence[SessionSummary]:
        """All of them, newest first."""
        ...

    async def get(self, tenant: Tenant, session_id: SessionId) -> SessionSummary:
        """One of them."""
        ...

    async def preview(self, tenant: Tenant, session_id: SessionId, *, limit: int) -> Sequence[Message]:
        """Its last ``limit`` messages, oldest first."""
        ...

    async def answered(self, tenant: Tenant, session_id: SessionId, request_id: RequestId) -> TurnFinished | None:
        """What the turn of that request answered, None where there is no such turn or it did not end."""
        ...

    async def reset(self, tenant: Tenant, session_id: SessionId) -> None:
        """Begin the conversation anew under the same id."""
        ...

    async def delete(self, tenant: Tenant, session_id: SessionId) -> None:
        """Remove it with its transcript."""
        ...


class Providers(Protocol):
    """Configured model providers."""

    def get(self, snapshot: Snapshot, tenant: Tenant, name: str) -> Provider:
        """The provider declared as ``name``, with the tenant's own key where it has one."""
        ...

    def hedge(self, snapshot: Snapshot, tenant: Tenant, model: str) -> Hedge | None:
        """How a call of ``model`` is made once more where it does not begin; None where it is not."""
        ...


class Administration(Protocol):
    """What an operator does to tenants. Each change is declared, committed and audited before it returns."""

    async def list(self) -> control.TenantList: ...
    async def show(self, tenant_id: TenantId) -> control.TenantView: ...
    async def create(self, order: control.TenantCreate, *, by: control.Actor) -> control.TenantCreated: ...
    async def suspend(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView: ...
    async def resume(self, tenant_id: TenantId, *, by: control.Actor) -> control.TenantView: ...
    async def remove(self, tenant_id: TenantId, *, purge: bool, by: control.Actor) -> control.TenantRemoved: ...
    async def tokens(self, tenant_id: TenantId) -> control.TokenList: ...
    async def token_issue(
        self, tenant_id: TenantId, order: control.TokenIssue, *, by: control.Actor
    ) -> control.TokenIssued: ...
    async def token_rotate(
        self, tenant_id: TenantId, order: control.TokenRotate, *, by: control.Actor, member: str | None = None
    ) -> control.TokenIssued: ...
    async def token_revoke(self, tenant_id: TenantId, name: str, *, by: control.Actor) -> None: ...
    async def quota_update(
        self, tenant_id: TenantId, order: control.QuotaUpdate, *, by: control.Actor
    ) -> control.TenantView: ...
    async def resize(
        self, tenant_id: TenantId, order: control.TenantResize, *, by: control.Actor
    ) -> control.TenantView: ...
    async def plans(self) -> object: ...


class QuotaRequests(Protocol):
    """What tenants ask for beyond their quotas."""

    async def ask(
        self, tenant: Tenant, *, quota: quotas.QuotaName, limit: str, reason: str, by: control.Actor,
        request: str | None = None,
    ) -> quotas.QuotaRequestView: ...  # fmt: skip
    async def list(self, tenant: Tenant) -> Sequence[quotas.QuotaRequestView]: ...
    async def all(self, tenants: Iterable[Tenant]) -> Sequence[quotas.QuotaRequestView]: ...
    async def decide(
        self, tenant: Tenant, request: str, order: quotas.QuotaDecision, *, by: control.Actor
    ) -> quotas.QuotaRequestView: ...


class Reconciler(Protocol):
    """Makes what is declared so. Its reports are dataclasses or models of its own."""

    async def status(self) -> object: ...
    async def briefly(self) -> tuple[object, Sequence[object]]: ...
    async def plan(self) -> object: ...
    async def observed(self) -> object: ...
    async def reconcile_now(
        self, *, by: control.Actor, tenant: TenantId | None = None, confirm: str | None = None
    ) -> object: ...
    async def tenant_status(self, tenant: TenantId) -> object: ...


class House(Protocol):
    """What the gateway stands on."""

    def report(self) -> Mapping[str, object]:
        """Userland, environments, sandbox and what holds each limit, as `/v1/status` tells them."""
        ...


class Sandboxes(Protocol):
    """Kept sandboxes, for an operator. One that is not the named tenant's is NotFound."""

    def list(self, tenant: TenantId | None) -> control.SandboxList: ...
    def log(self, tenant: TenantId, sandbox_id: str) -> control.SandboxLog: ...
    async def stop(self, tenant: TenantId, sandbox_id: str, *, by: control.Actor) -> None: ...
    async def execute(
        self, tenant: Tenant, sandbox_id: str, order: control.SandboxExec, *, by: control.Actor
    ) -> control.SandboxExecuted: ...


class Packages(Protocol):
    """What tenants choose for their sandboxes."""

    def list(self, tenant: Tenant) -> rpc.PackageSet: ...
    async def search(
        self, snapshot: Snapshot, tenant: Tenant, query: str, *, after: str, limit: int
    ) -> rpc.PackageNames: ...
    async def add(
        self, snapshot: Snapshot, tenant: Tenant, names: Sequence[str], *, by: control.Actor
    ) -> rpc.PackageSet: ...
    async def remove(self, tenant: Tenant, names: Sequence[str], *, by: control.Actor) -> rpc.PackageSet: ...


class Access(Protocol):
    """Requests for access, and decisions on them."""

    async def list(self, tenant: Tenant) -> rpc.GrantList: ...
    async def decide(
        self, snapshot: Snapshot, tenant: Tenant, grant_id: str, decision: str, *, by: control.Actor, operator: bool
    ) -> rpc.GrantView: ...


class SnapshotKeeping(Protocol):
    """Snapshots of tenants' workspaces, for an operator."""

    async def list(self, tenant: Tenant) -> control.SnapshotList: ...
    async def make(
        self, tenant: Tenant, order: control.SnapshotOrder, *, by: control.Actor
    ) -> control.SnapshotView: ...
    async def roll_back(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> control.RolledBack: ...
    async def remove(self, tenant: Tenant, snapshot_id: str, *, by: control.Actor) -> None: ...


class BackupKeeping(Protocol):
    """Backups of tenants. ``local``: who asks is on the gateway's machine, and may name any place."""

    async def list(self, tenant: Tenant, place: str | None, *, local: bool) -> backups.BackupList: ...
    def running(self, tenant: Tenant) -> backups.JobView: ...
    async def stop(self, tenant: Tenant, *, by: control.Actor) -> None: ...
    async def back_up(
        self, tenant: Tenant, order: backups.BackupOrder, *, by: control.Actor, local: bool
    ) -> backups.BackupView: ...
    async def verify(
        self, tenant: Tenant, order: backups.VerifyOrder, *, by: control.Actor, local: bool
    ) -> backups.Verified: ...
    async def collect(
        self, tenant: Tenant, order: backups.CollectOrder, *, by: control.Actor, local: bool
    ) -> backups.CollectedView: ...
    async def restore(
        self, tenant: Tenant, order: backups.RestoreOrder, *, by: control.Actor, local: bool
    ) -> backups.RestoreView: ...
    async def decide(self, tenant: Tenant, order: backups.RestoreDecision, *, by: control.Actor) -> None: ...
    def spool(self) -> AbstractAsyncContextManager[Path]: ...
    async def export(self, tenant: Tenant, file: Path, *, by: control.Actor) -> None: ...
    async def take_in(
        self, tenant: Tenant, file: Path, order: backups.ImportOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ImportView: ...
    async def send(
        self, tenant: Tenant, order: backups.ExportOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ExportView: ...
    async def fetch(
        self, tenant: Tenant, order: backups.FetchOrder, *, by: control.Actor, reach: Reach
    ) -> backups.ImportView: ...
    async def look(self, order: backups.LookOrder, *, reach: Reach) -> backups.ImportView: ...
    async def back_up_own(self, tenant: Tenant, *, by: control.Actor) -> backups.BackupView: ...
    async def restore_own(self, tenant: Tenant, key: str, *, by: control.Actor) -> backups.RestoreView: ...


class SecretKeeping(Protocol):
    """Tenants' vaults, for an operator."""

    async def list(self, tenant: Tenant) -> control.SecretList: ...
    async def put(
        self, tenant: Tenant, name: str, order: control.SecretPut, *, by: control.Actor
    ) -> control.SecretView: ...
    async def remove(self, tenant: Tenant, name: str, *, by: control.Actor) -> None: ...
    async def reseal(self, tenant: Tenant, *, by: control.Actor) -> control.SecretsResealed: ...


class History(Protocol):
    """What was declared before."""

    async def list(self, tenant: TenantId | None, *, limit: int) -> revisions.HistoryList: ...
    async def diff(self, old: str, new: str | None) -> revisions.DeclaredDiff: ...
    async def roll_back(self, revision: str, *, by: control.Actor) -> revisions.DeclaredRollback: ...


class Git(Protocol):
    """The branch that is followed."""

    async def take(self, *, by: control.Actor) -> revisions.RevisionTaken: ...
    async def pull(self, order: revisions.PullOrder, *, by: control.Actor) -> revisions.PullAnswer: ...
    def nudge(self, headers: Mapping[str, str], body: bytes) -> None: ...
    def report(self) -> Mapping[str, object]: ...


class Audit(Protocol):
    """The record of who changed what."""

    async def record(
        self, *, actor: str, action: str, target: str, request_id: str, outcome: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> None:  # fmt: skip
        """Add one line; raises StorageFull where it cannot be kept."""
        ...

    def change(
        self, *, actor: str, action: str, target: str, request_id: str, tenant: str | None = None,
        before: object = None, after: object = None,
    ) -> AbstractAsyncContextManager[None]:  # fmt: skip
        """Make a change within it: its one line says how it ended. Raises StorageFull where none could be kept."""
        ...

    async def page(self, query: control.AuditQuery) -> control.AuditPage:
        """The lines that are sought; raises InvalidRequest."""
        ...

    async def ends(self) -> control.AuditEnds:
        """How far it goes, signed."""
        ...


class Changes(Protocol):
    """Makes changes of the control plane once for each idempotency key, and on condition."""

    async def make(
        self, exchange: Any, handler: Callable[[Any], Awaitable[web.StreamResponse]], kind: Any
    ) -> web.StreamResponse:
        """The answer; see `http.changes`."""
        ...


class Keyed(Protocol):
    """Does what a call asks for once for each idempotency key."""

    async def run(self, context: Any, method: Any, params: BaseModel, key: str) -> dict[str, Any]:
        """The answer; see `http.rpc.keyed`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The edges' time and size limits, in seconds and bytes. Tests shorten them."""

    header_seconds: float = 30.0
    body_stall_seconds: float = 20.0
    body_seconds: float = 300.0
    write_stall_seconds: float = 60.0
    keepalive_comment_seconds: float = 15.0
    request_seconds: float = 3600.0
    recheck_seconds: float = 0.4
    control_body_bytes: int = 1 << 20
    connections: int = 8192
    failed_attempts: int = 60
    failed_window_seconds: float = 60.0
    sockets_per_tenant: int = 100
    calls_per_socket: int = 16
    waiting_frames: int = 4096
    waiting_bytes: int = 16 << 20
    frame_bytes: int = 8 << 20
    ping_seconds: float = 20.0
    close_seconds: float = 1.0
    linger_seconds: float = 30.0
    linger_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the edges call, built once and handed down.

    ``starter_uid`` is the uid that started the gateway where it has given that up since: its owner may use the
    control socket. ``host_names`` are names beyond loopback's that the gateway answers for.
    """

    directory: Directory
    tokens: Tokens
    agents: AgentRunner
    sessions: Sessions
    meter: Metering
    relay: DirectRelay
    providers: Providers
    administration: Administration
    reconciler: Reconciler
    audit: Audit
    metrics: Metrics
    hub: Hub
    sends: Sends
    clock: Clock = field(default_factory=SystemClock)
    starter_uid: int | None = None
    host_names: tuple[str, ...] = ()
    version: str = "0"
    house: House | None = None
    sandboxes: Sandboxes | None = None
    secrets: SecretKeeping | None = None
    packages: Packages | None = None
    access: Access | None = None
    snapshots: SnapshotKeeping | None = None
    backups: BackupKeeping | None = None
    disk: DiskUse | None = None
    keyed: Keyed | None = None
    responses: Responses | None = None
    changes: Changes | None = None
    traces: Traces = field(default_factory=Traces)
    quota_requests: QuotaRequests | None = None
    engines: Engines | None = None
    mcp: McpProxy | None = None
    history: History | None = None
    git: Git | None = None
    turns: Turns = field(default_factory=Turns)
