"""The models of the control plane: what its routes take and give. The edges and the command line share them."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, SecretStr, field_serializer

from carrel.declare.base import Name, PackageName, Scope
from carrel.ids import SESSION_ID_PATTERN, TENANT_ID_PATTERN, RequestId
from carrel.wire.tags import Tagged

TenantName = Annotated[str, Field(pattern=TENANT_ID_PATTERN)]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asked for a change, as the audit log names it: `ak_<name>`, `uid:<n>`, or a tenant token's prefix."""

    name: str
    request_id: RequestId


class Order(BaseModel):
    """Base of what comes in: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True, cache_strings="keys")


class Answer(BaseModel):
    """Base of what goes out. Clients take keys that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class TenantView(Answer):
    """One tenant as it stands."""

    id: str
    display_name: str | None = None
    plan: str | None = None
    state: Literal["active", "suspended", "broken"]
    revision: str
    problem: str | None = Field(None, description="Why its newest declaration is not in force.")
    agents: tuple[str, ...] = ()
    file: str | None = Field(None, description="Where it is declared, relative to tenants.d.")
    backed_up: bool = Field(True, description="Whether backups of all tenants are of this one too.")


class TenantList(Answer):
    """All tenants, by id."""

    tenants: tuple[TenantView, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class TenantCreate(Order):
    """A new tenant. Its YAML is written, and committed where tenants.d is in a git work tree."""

    id: TenantName
    display_name: Annotated[str, Field(max_length=200)] | None = None
    plan: Name | None = None
    packages: Annotated[tuple[PackageName, ...], Field(max_length=256)] | None = Field(
        None, description="What its tools find beside the base set, of those allowed."
    )
    issue_token: bool = Field(True, description="Issue a first token; it is shown once.")


class TenantCreated(Answer):
    """The new tenant, with its token where one was issued."""

    tenant: TenantView
    token: str | None = None
    commit: str | None = Field(None, description="The commit that declares it, where there is git.")


class TenantRemoved(Answer):
    """The tenant that is no longer declared."""

    id: str
    data_kept: bool
    commit: str | None = None


class TokenInfo(Tagged, Answer):
    """A token without its secret."""

    name: str
    prefix: str | None = Field(None, description="Unknown for a declared token, of which only the digest is known.")
    scopes: tuple[Scope, ...]
    expires: datetime | None = None
    created_at: datetime | None = None
    source: Literal["issued", "declared"] = "issued"
    member: str | None = Field(None, description="The person whose it is, where it is bound to one.")


class TokenList(Answer):
    """A tenant's tokens."""

    tenant: str
    tokens: tuple[TokenInfo, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class TokenIssue(Order):
    """A new token."""

    name: Name
    scopes: tuple[Scope, ...] = ("chat", "rpc")
    expires: datetime | None = None
    member: Name | None = Field(None, description="The person of the tenant's `members` to bind it to.")


class TokenRotate(Order):
    """Replace a token by a new one of the same name and scopes; `default` where no name is given."""

    name: Name | None = None


class TokenIssued(Answer):
    """A token, shown this once."""

    tenant: str
    name: str
    token: str
    prefix: str
    scopes: tuple[Scope, ...]
    expires: datetime | None = None
    member: str | None = None


class TenantResize(Order):
    """What to change; what is left out stays. Null takes the tenant's own value away, so that its plan's holds."""

    plan: Name | None = Field(None, description="A plan of `_plans.yaml`.")
    memory_bytes: Annotated[int, Field(ge=1 << 20)] | None = Field(None, description="Memory of its sandbox.")
    cpus: Annotated[Decimal, Field(gt=0, le=4096)] | None = Field(None, description="Processors of its sandbox.")
    cpu_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = Field(None, description="Processor time of a run.")
    pids: Annotated[int, Field(ge=2, le=32_768)] | None = Field(None, description="Processes of its sandbox.")
    concurrent: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="Runs at a time.")


Count = Annotated[int, Field(ge=0)]
Money = Annotated[Decimal, Field(ge=0)]


class HardAndSoft(Order):
    """A limit that refuses and one that warns; for one that is left out the plan's own holds."""

    hard: Count | Money | None = None
    soft: Count | Money | None = None


class SoftOnly(Order):
    """A limit that warns, where the one that refuses is the sandbox's own."""

    soft: Count | None = None


class QuotaUpdate(Order):
    """Limits to set. A number is the hard one and leaves the soft one; what is left out stays, null takes it away."""

    tokens_per_day: Count | HardAndSoft | None = None
    tokens_per_month: Count | HardAndSoft | None = None
    cost_per_day_usd: Money | HardAndSoft | None = None
    cost_per_month_usd: Money | HardAndSoft | None = None
    requests_per_second: Count | HardAndSoft | None = None
    requests_per_minute: Count | HardAndSoft | None = None
    requests_per_hour: Count | HardAndSoft | None = None
    disk_bytes: Count | HardAndSoft | None = None
    disk_files: Count | HardAndSoft | None = None
    snapshots_bytes: Count | HardAndSoft | None = None
    concurrent_sessions: Count | HardAndSoft | None = None
    sandbox_cpu_seconds: SoftOnly | None = None
    sandbox_memory_bytes: SoftOnly | None = None
    sandbox_pids: SoftOnly | None = None


class QuotaLine(Answer):
    """One quota in use. Numbers are exact text."""

    name: str
    used: str
    reserved: str = "0"
    hard: str | None = None
    soft: str | None = None
    reset_at: str | None = None
    over_hard: bool = False
    over_soft: bool = False


class QuotaView(Answer):
    """A tenant's quotas in use."""

    tenant: str
    quotas: tuple[QuotaLine, ...]


class UsageRow(Answer):
    """One line of the report: a UTC day and a model. The names are the report's columns."""

    date: str
    tenant: str
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    reasoning_tokens: int
    tool_calls: int
    cost_usd: str
    key: str | None = Field(None, description="The agent, session or member, where the report is by one; else null.")


class UsageReport(Answer):
    """The report of a period; ``first`` and ``last`` are its days, both included."""

    tenant: str
    period: str
    first: str
    last: str
    rows: tuple[UsageRow, ...]
    total_cost_usd: str
    next: str | None = Field(None, description="The cursor of the next page, where pages were asked for.")


class ChatOrder(Order):
    """A message to an agent of a tenant."""

    message: Annotated[str, Field(min_length=1, max_length=2_000_000)]
    session: Annotated[str, Field(pattern=SESSION_ID_PATTERN)] | None = None
    agent: Name | None = None
    member: Name | None = Field(None, description="The person of the tenant's `members` to speak as.")


class ChatEvent(Answer):
    """One server-sent event of a turn; its SSE event name is ``kind``, and which fields it has follows from that.

    `session`: session, agent. `text`, `thinking`, `notice`: text. `tool_started`: id, name, arguments. `tool_output`:
    id, text. `tool_finished`: id, name, content, is_error, seconds. `finished`: session, text, stop, model, usage,
    tool_calls. `error`: code, text.
    """

    kind: Literal[
        "session", "text", "thinking", "notice", "tool_started", "tool_output", "tool_finished", "finished", "error"
    ]
    session: str | None = None
    agent: str | None = None
    text: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: str | None = None
    is_error: bool | None = None
    seconds: float | None = None
    stop: str | None = None
    model: str | None = None
    usage: dict[str, int] | None = None
    tool_calls: int | None = None
    code: str | None = None


class AuditQuery(Order):
    """Which lines of the audit log are sought."""

    cursor: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="Go on behind this place, as `next` of the page before named it."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="1 to 1000; 100 by default.")
    after: Annotated[str, Field(max_length=32)] | None = Field(None, description="What `cursor` was called before.")
    order: Literal["oldest", "newest"] = Field("oldest", description="Which come first: `oldest` or `newest`.")
    tenant: Annotated[str, Field(max_length=64)] | None = Field(None, description="Lines of this tenant alone.")
    actor: Annotated[str, Field(max_length=200)] | None = Field(None, description="Who did it, as lines name them.")
    action: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="What was done: `tokens.rotate`, or `tokens.*` for all of a kind."
    )
    target: Annotated[str, Field(max_length=500)] | None = Field(None, description="To what it was done.")
    outcome: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="`ok`, `failed: CODE` or `unknown`."
    )
    request_id: Annotated[str, Field(max_length=200)] | None = Field(None, description="Lines of this request.")
    since: AwareDatetime | None = Field(None, description="Lines from this time on, with its offset.")
    until: AwareDatetime | None = Field(None, description="Lines before this time, with its offset.")
    text: Annotated[str, Field(max_length=500)] | None = Field(None, description="Lines with this in them.")

    @property
    def place(self) -> str | None:
        """Where to go on."""
        return self.cursor if self.cursor is not None else self.after


class SignedEnd(Answer):
    """The last line of a day, and who signed that it was."""

    day: str
    number: int
    hash: str
    key: str
    signature: str


class AuditEnds(Answer):
    """How far the audit log goes, the ends of the days that are over, and the public key that signs them, as PEM."""

    key: str
    public_key: str
    end: SignedEnd | None = None
    days: tuple[SignedEnd, ...] = ()
    next: str | None = Field(None, description="The cursor of the next page of days; null at the end.")


class AuditPage(Answer):
    """Lines of the audit log in the order asked for; ``next`` goes on after the last, None where there are no more."""

    lines: tuple[dict[str, JsonValue], ...]
    next: str | None = None


class Report(Answer):
    """What a room reports of itself, in that room's own words."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return self.model_dump(mode="json")


class Condition(Answer):
    """What is true, in the sense that Kubernetes gives the word."""

    type: str = Field(description="`Ready`, `Reconciling`, `Stalled` or `Suspended`.")
    status: str = Field(description="`True`, `False` or `Unknown`.")
    reason: str = Field("", description="One word for machines.")
    message: str = ""
    observed_revision: str = ""
    last_transition_time: datetime | None = Field(None, description="When the status last changed.")


class ReconcileResult(Answer):
    """How one reconcile ended that changed something, or failed to."""

    at: datetime
    revision: str = ""
    outcome: str = Field(description="`applied`, `failed`, `held`, `suspended`, `corrected` or `deleted`.")
    message: str = ""


class TenantStatus(Answer):
    """How what is declared of one tenant took effect."""

    id: str
    state: str = Field(
        description="`Ready`, `Reconciling`, `Suspended`, `Stalled` (it stays as it is until something changes) or "
        "`Removed`."
    )
    reason: str = Field("", description="One word for machines.")
    message: str = ""
    file: str | None = None
    plan: str | None = None
    packages: tuple[str, ...] = ()
    observed_revision: str = Field("", description="The SHA-256 of the file as last read.")
    applied_revision: str = Field(
        "",
        description="That of the configuration in force, with what defaults, the plan and the overlay add: `Ready` "
        "says, and not that the two are the same, that the file is in force.",
    )
    problems: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    results: tuple[ReconcileResult, ...] = Field((), description="The last ones, oldest first.")
    drift: tuple[str, ...] = Field((), description="How its state differs from what Carrel made.")
    delete_at: datetime | None = Field(None, description="When the data of a removed tenant is deleted.")


class EnvironmentStatus(Answer):
    """Where one set of packages stands. Tenants of the same set share it."""

    packages: tuple[str, ...] = ()
    state: str = Field("", description="`building`, `ready`, `failed`, or `host`: the machine's own `/usr` is lent.")
    reason: str = ""
    seconds: float = Field(0.0, description="What building it took, or takes so far.")
    key: str | None = Field(None, description="Names what is in it.")


class HeldLimit(Answer):
    """What holds one limit of a sandbox's, and for how much of it."""

    limit: str
    by: str
    scope: str = Field(description="`process`, `sandbox` or `tenant`.")


class SandboxRuntime(Answer):
    """An OCI runtime that a mode of the sandbox names, as it was tried at the start."""

    name: str
    problem: str | None = Field(None, description="Why no command of such a mode is run; null where it works.")


class DeletedTenant(Answer):
    """A tenant that is gone with its data."""

    tenant: str
    at: datetime
    backup: str = Field(description="Where its final backup is.")


class Reconciled(Report):
    """What a reconcile did, as a plan, and how tenants stand after it."""

    confirm: str = Field("", description="The word for removals that wait for one.")
    tenants: tuple[TenantStatus, ...] = Field(
        (), description="The one that was named, or those that changed or are not as they should be."
    )


class ProviderStatus(Answer):
    """How a model provider stands that was called: its circuit with the operator's key, and the calls at it."""

    name: str
    circuit: str = Field("", description="`closed`: it is asked; `open`: it failed too often; `half_open`: one tries.")
    running: int = Field(0, description="Calls under way.")
    waiting: int = Field(0, description="Calls that wait for a connection.")
    failures: int = Field(0, description="Since the gateway started.")
    opened: int = Field(0, description="How often the circuit opened since then.")


class ChannelTrouble(Answer):
    """An account of a tenant's channel that is tried, and is not connected."""

    tenant: str
    channel: str
    account: str
    error: str


class StatusReport(Report):
    """What runs, and how what is declared took effect. Fields that are not named here may be added."""

    version: str = ""
    state: str = Field("", description="`Ready`, or `Stalled`: what was in force before stays.")
    userland: str | None = Field(None, description="What tools run on: a closure, or the host's, and why.")
    sandbox: str | None = Field(None, description="`bwrap`, or why no tool runs.")
    cgroup: str | None = Field(None, description="The controllers of cgroup v2 that limit sandboxes, or why none do.")
    environments: tuple[EnvironmentStatus, ...] = ()
    runtimes: tuple[SandboxRuntime, ...] = ()
    providers: tuple[ProviderStatus, ...] = Field((), description="Model providers that were called.")
    limits: tuple[HeldLimit, ...] = ()
    channels: tuple[ChannelTrouble, ...] = Field((), description="Accounts that fail, the first hundred of them.")
    problems: tuple[str, ...] = Field((), description="Those that are no one tenant's.")
    conditions: tuple[Condition, ...] = Field((), description="Those of the gateway as a whole.")
    confirm: str = Field("", description="The word for removals that wait for one.")
    deleted: tuple[DeletedTenant, ...] = Field((), description="The last tenants that were deleted, newest first.")
    tenants: tuple[TenantStatus, ...] = ()
    uncommitted: tuple[str, ...] = Field((), description="Declarations with changes that are in no commit.")


class PlanView(Answer):
    """A plan as it is declared."""

    display_name: str | None = None
    max_members: int | None = None
    max_thinking: str | None = None
    quotas: dict[str, JsonValue] = Field(default_factory=dict)
    sandbox: dict[str, JsonValue] = Field(default_factory=dict)
    billing: dict[str, JsonValue] = Field(default_factory=dict)


class PlansView(Answer):
    """The plans by name, and the SHA-256 of each that ledger rows name it by."""

    plans: dict[str, PlanView] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)


class SandboxView(Answer):
    """A sandbox that is kept between commands, and runs now."""

    id: str
    tenant: str
    agent: str
    workspace: str = Field(description="The directory of the tenant's that is its /workspace.")
    started: datetime
    used: datetime
    commands: int = Field(description="How many were run in it so far.")
    running: int = Field(description="How many of them still are.")


class SandboxList(Answer):
    """Those that run, the oldest first."""

    sandboxes: tuple[SandboxView, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class SandboxLog(Answer):
    """The last of what background processes in a sandbox wrote."""

    id: str
    text: str


class SandboxExec(Order):
    """A command for a sandbox that runs, with the limits of the tenant's."""

    argv: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    stdin: Annotated[str, Field(max_length=1 << 20)] = ""
    timeout_seconds: Annotated[float, Field(gt=0, le=86400)] | None = Field(
        None, description="Time after which it is killed; at most, and by default, the tenant's own limit."
    )


class SandboxExecuted(Answer):
    """How it ended. What is no UTF-8 in its output is replaced."""

    exit_code: int | None
    signal: int | None
    stdout: str
    stderr: str
    output_dropped: int = Field(description="Bytes over the tenant's limit of output, which were not kept.")
    killed: str | None = Field(description="The limit that ended it, where one did.")
    seconds: float


class SecretPut(Order):
    """A secret's value. It is kept sealed, and no route gives it back."""

    value: SecretStr = Field(description="The value itself.")
    must_exist: bool = Field(False, description="Refuse where there is none of that name: to replace, not to add.")

    @field_serializer("value", when_used="json")
    def _plain(self, value: SecretStr) -> str:
        """The command line sends it: in the text of a request alone."""
        return value.get_secret_value()


class SecretView(Tagged, Answer):
    """What may be told of a secret."""

    name: str
    version: int = Field(description="How many values it has had.")
    key_version: int = Field(description="The version of the master key that it is sealed with.")
    created: datetime
    updated: datetime


class SecretList(Answer):
    """A tenant's secrets, by name."""

    secrets: tuple[SecretView, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class SecretsResealed(Answer):
    """How many were sealed anew."""

    count: int


class SnapshotOrder(Order):
    """A snapshot to make."""

    label: Annotated[str, Field(max_length=200)] = Field("", description="What it is for.")
    session: Annotated[str, Field(pattern=SESSION_ID_PATTERN)] | None = Field(
        None, description="Of this session's own workspace, where sessions have such; else of the tenant's."
    )
    member: Name | None = Field(None, description="Of this member's own workspace, where members have such.")


class SnapshotView(Answer):
    """A copy of a workspace."""

    id: str
    workspace: str
    label: str = ""
    made: datetime
    files: int = Field(0, description="Entries of every kind; 0 where they were not counted.")
    bytes: int = 0
    left_out: int = Field(0, description="What could not be copied: sockets, pipes, and what changed meanwhile.")
    why: str = Field(
        "asked", description="`asked`; `before_turn`, made of itself before a message; `rollback`, what one replaced."
    )


class SnapshotList(Answer):
    """Snapshots, oldest first."""

    snapshots: tuple[SnapshotView, ...]
    next: str | None = Field(None, description="The cursor of the next page; null at the end.")


class RolledBack(Answer):
    """What the workspace is now, and the snapshot of what it was before."""

    to: SnapshotView
    before: SnapshotView
