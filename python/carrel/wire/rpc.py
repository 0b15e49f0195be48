"""The models of the JSON-RPC methods: parameters as callers send them, results as they read them.

Names are camelCase on the wire, as the clients of the systems before this one expect. A name that ends in ``Ms``, and
``ts``, is in milliseconds since the epoch. A ``tenantId`` parameter may only be the caller's own.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from carrel.ids import SESSION_ID_PATTERN, TENANT_ID_PATTERN

SessionIdText = Annotated[str, Field(pattern=SESSION_ID_PATTERN)]
AgentName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]


class Params(BaseModel):
    """Base of parameters: strict, frozen, unknown names refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True,
        allow_inf_nan=False, defer_build=True,
    )  # fmt: skip


class OwnTenant(Params):
    """Base of parameters that clients may send a tenant id with."""

    tenant_id: Annotated[str, Field(pattern=TENANT_ID_PATTERN)] | None = Field(
        None, description="The caller's own id, or left out."
    )


class Result(BaseModel):
    """Base of results."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, defer_build=True)


class NoParams(Params):
    """A method without parameters."""


class HealthParams(Params):
    """``probe`` is taken for existing clients' sake; the answer is always fresh."""

    probe: bool = False


class SessionCount(Result):
    """How many sessions there are, and the newest few."""

    count: int
    recent: tuple[str, ...] = ()


class Health(Result):
    """Whether the tenant is served."""

    ok: bool
    ts: int
    duration_ms: int
    channels: dict[str, Any] = Field(default_factory=dict)
    agents: tuple[str, ...] = ()
    sessions: SessionCount


class TenantsGetParams(OwnTenant):
    """Parameters of `tenants.get`."""


class TenantInfo(Result):
    """What a tenant may know of itself."""

    tenant_id: str
    display_name: str | None = None
    plan: str | None = None
    created_at: int | None = Field(None, description="Milliseconds since the epoch, where it is known.")
    disabled: bool = False
    revision: str
    problem: str | None = Field(None, description="Set where the newest declaration is broken and an older one serves.")
    agents: tuple[str, ...] = ()


class TenantsStatusParams(OwnTenant):
    """Parameters of `tenants.status`."""


class Condition(Result):
    """What is true of the tenant: `Ready`, `Reconciling`, `Stalled` or `Suspended`."""

    type: str
    status: str = Field(description="`True`, `False` or `Unknown`.")
    reason: str
    message: str = ""
    last_transition_ms: int


class TenantStanding(Result):
    """How what is declared of the tenant took effect."""

    tenant_id: str
    state: str
    reason: str
    message: str = ""
    observed_revision: str
    applied_revision: str
    conditions: tuple[Condition, ...] = ()


class RotateParams(OwnTenant):
    """Parameters of `tenants.rotate`; ``name`` is the token's, the calling one by default."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] | None = None


class Rotated(Result):
    """The new token, shown this once."""

    tenant_id: str
    token: str


class UsageParams(OwnTenant):
    """Parameters of `tenants.usage`; ``period``: `today`, `current-month`, `last-month`, a date, `A..B`."""

    refresh_disk: bool = Field(False, description="Measure what the workspaces take of the disk, too.")
    period: Annotated[str, Field(max_length=64)] = "current-month"


class UsageRow(Result):
    """One line of the report: a day and a model. The names are the report's columns."""

    model_config = ConfigDict(frozen=True, alias_generator=None, defer_build=True)

    date: str
    tenant: str
    model: str
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    reasoning_tokens: int
    tool_calls: int
    cost_usd: str


class Usage(Result):
    """What the period's calls used and cost. ``totalCostUsd`` is exact; ``totalCostCents`` is rounded half up."""

    tenant_id: str
    period: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    tool_calls: int
    total_cost_usd: str
    total_cost_cents: int
    total_sessions: int
    disk_bytes: int | None = Field(None, description="What all workspaces take now, where `refreshDisk` asked for it.")
    disk_files: int | None = Field(None, description="Files, directories and links in them.")
    rows: tuple[UsageRow, ...] = ()


class UsageHistoryParams(OwnTenant):
    """Parameters of `tenants.usage.history`."""

    months: Annotated[int, Field(ge=1, le=36)] = 6


class MonthUsage(Result):
    """What a month's calls used and cost; the month that is not over, up to now."""

    month: str = Field(description="As `2027-01`, in UTC.")
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    total_tokens: int
    tool_calls: int
    total_cost_usd: str
    total_cost_cents: int


class UsageHistory(Result):
    """Months, the newest first."""

    tenant_id: str
    history: tuple[MonthUsage, ...]


class DeleteParams(OwnTenant):
    """Parameters of `tenants.delete`."""

    confirm: Literal[True] = Field(description="That it is meant: the tenant is suspended at once.")


class Deleted(Result):
    """The tenant is not served any more. Its data is deleted after the operator's time of grace and a last backup."""

    deleted: bool
    tenant_id: str


class QuotaParams(OwnTenant):
    """Parameters of `tenants.quota.status`."""


class QuotaLine(Result):
    """One quota: what is used of what is allowed, and when its window opens again."""

    name: str
    used: str
    hard: str | None = None
    soft: str | None = None
    reserved: str = "0"
    reset_at: str | None = None
    over_hard: bool = False
    over_soft: bool = False


class QuotaStatus(Result):
    """Quotas in use. Percentages are of the hard limit of the nearest window, 0 where there is none.

    ``isBlocked`` is about model calls: who is over a quota of the disk may still ask, read and delete.
    """

    tenant_id: str
    token_usage_percent: float
    cost_usage_percent: float
    disk_usage_percent: float = 0.0
    is_over_token_limit: bool
    is_over_cost_limit: bool
    is_over_disk_limit: bool = False
    is_blocked: bool
    quotas: tuple[QuotaLine, ...] = ()


class SessionsCreateParams(Params):
    """Parameters of `sessions.create`."""

    agent: AgentName | None = None
    session_id: SessionIdText | None = Field(None, description="The id to give it; one is made where left out.")
    label: Annotated[str, Field(max_length=200)] | None = None


class SessionCreated(Result):
    """The new session."""

    session_id: str
    key: str
    agent: str


class Page(Params):
    """Base of parameters of what lists: page by page, without repeats or gaps while the list changes."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str, Field(max_length=512)] | None = Field(None, description="Go on as `next` named it.")


class SessionsListParams(Page):
    """Parameters of `sessions.list`."""

    active_minutes: Annotated[int, Field(ge=1)] | None = None
    agent_id: AgentName | None = None
    label: Annotated[str, Field(max_length=200)] | None = None
    search: Annotated[str, Field(max_length=200)] | None = None
    include_derived_titles: bool = False
    include_last_message: bool = False


class SessionDefaults(Result):
    """What a session without choices of its own runs on."""

    model_provider: str | None = None
    model: str | None = None
    context_tokens: int | None = None


class SessionEntry(Result):
    """One session."""

    key: str
    session_id: str
    agent_id: str
    kind: Literal["direct", "group", "global", "unknown"] = "direct"
    label: str | None = None
    display_name: str | None = None
    updated_at: int
    created_at: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    model: str | None = None
    message_count: int = 0
    last_message: str | None = None


class SessionList(Result):
    """Sessions, newest first."""

    ts: int
    count: int
    defaults: SessionDefaults
    sessions: tuple[SessionEntry, ...]
    next: str | None = Field(None, description="The cursor of the next page; absent at the end.")


class SessionsPreviewParams(Params):
    """Parameters of `sessions.preview`."""

    keys: Annotated[tuple[Annotated[str, Field(max_length=300)], ...], Field(min_length=1, max_length=64, strict=False)]
    limit: Annotated[int, Field(ge=1, le=100)] = 12
    max_chars: Annotated[int, Field(ge=20, le=2000)] = 240


class PreviewItem(Result):
    """The beginning of one message."""

    role: str
    text: str


class SessionPreview(Result):
    """The last messages of one session."""

    key: str
    status: Literal["ok", "empty", "missing", "error"]
    items: tuple[PreviewItem, ...] = ()


class SessionPreviews(Result):
    """Previews in the order of the keys."""

    ts: int
    previews: tuple[SessionPreview, ...]


class SessionsSendParams(Params):
    """Parameters of `sessions.send`: a new session is made where neither ``sessionId`` nor ``key`` names one."""

    message: Annotated[str, Field(min_length=1, max_length=2_000_000)]
    session_id: SessionIdText | None = None
    key: SessionIdText | None = Field(None, description="Another name of `sessionId`.")
    agent: AgentName | None = None


class SentUsage(Result):
    """Tokens of one turn, by class; the classes do not overlap."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int


class SentToolCall(Result):
    """One tool call of the turn."""

    id: str
    name: str
    is_error: bool
    duration_ms: int


class Sent(Result):
    """The agent's answer, after it is on disk and in the ledger."""

    session_id: str
    agent: str
    text: str
    stop: str
    model: str
    usage: SentUsage
    tool_calls: tuple[SentToolCall, ...] = ()
    notices: tuple[str, ...] = ()


class SessionParams(Params):
    """Parameters of the methods that take one session."""

    session_id: SessionIdText | None = None
    key: SessionIdText | None = Field(None, description="Another name of `sessionId`.")


class SessionCancelled(Result):
    """How many calls of `sessions.send` were cancelled, waiting ones among them."""

    session_id: str
    cancelled: int


class SessionDone(Result):
    """The session that was reset or deleted."""

    ok: bool
    session_id: str


class ConfigView(Result):
    """The tenant's effective configuration, secrets and digests left out. ``hash`` is its revision."""

    valid: bool
    config: dict[str, Any]
    overlay: dict[str, Any] = Field(default_factory=dict, description="What the tenant itself set, in `config.yaml`.")
    hash: str
    issues: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    tenant_writable_keys: tuple[str, ...] = ()


class ConfigSchema(Result):
    """The JSON Schema of a tenant's file."""

    # The field's name on the wire is `schema`, which pydantic's BaseModel once used for itself.
    json_schema: dict[str, Any] = Field(alias="schema")
    ui_hints: dict[str, Any] = Field(default_factory=dict)
    version: str
    generated_at: str


class PackageSearch(Page):
    """Names that have ``query`` in them, page by page."""

    query: Annotated[str, Field(max_length=128)] = ""
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    after: Annotated[str, Field(max_length=128)] = Field("", description="What `cursor` was called before.")


class PackageChange(Params):
    """Packages by name."""

    packages: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
        Field(min_length=1, max_length=100, strict=False),
    ]


class PackageSet(Result):
    """What is in the tenant's sandbox beside the base set. ``state`` is that of the environment with it."""

    packages: tuple[str, ...]
    state: str = Field(description="`building`, `ready`, `failed`, `host` (the machine's own is lent) or `unknown`.")
    reason: str = ""
    seconds: float = 0.0
    log: str = Field("", description="What its last builds printed, the latest one last; cut at its beginning.")


class PackageName(Result):
    """A package that may be chosen; ``version`` and ``description`` where the source tells them."""

    name: str
    chosen: bool
    version: str = ""
    description: str = ""


class PackageNames(Result):
    """A page of them. ``nearest`` is the closest name where none was found."""

    packages: tuple[PackageName, ...]
    total: int
    next: str | None = None
    nearest: str | None = None
    note: str = Field("", description="Why it is not known yet what packages there are; names of patterns lack then.")


class GrantDecision(Params):
    """A decision on a request: for one use, for a time, until it is taken back, or no."""

    grant: Annotated[str, Field(min_length=1, max_length=64)]
    decision: Literal["once", "1h", "24h", "always", "deny"]


class GrantView(Result):
    """A request for access. It is bound to its agent and session, and to exactly what was asked."""

    id: str
    kind: str
    what: str
    reason: str
    agent: str
    session_id: str
    member: str | None = Field(None, description="The person for whom the agent asked, where that is known.")
    state: str = Field(description="`waiting`, `granted`, `denied`, or `over`.")
    decision: str | None = None
    asked: str
    decided: str | None = None
    decided_by: str | None = None
    caution: str | None = Field(None, description="What whoever decides should know: that an address is private.")


class GrantList(Result):
    """Requests, oldest first."""

    grants: tuple[GrantView, ...]
    next: str | None = None
