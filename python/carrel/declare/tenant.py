"""A tenant's file, what it merges with, and what a tenant may write itself."""

from typing import Annotated, Final, Literal

from pydantic import Field

from carrel.declare.backup import TenantBackup
from carrel.declare.base import (
    Bytes,
    Day,
    Declared,
    DeclaredToken,
    Kept,
    ModelName,
    Name,
    PackageName,
    Seconds,
    SecretRef,
)
from carrel.declare.billing import PlanBilling
from carrel.declare.channels import Channel, ChannelName
from carrel.declare.egress import Egress
from carrel.declare.jobs import MOST_DECLARED, DeclaredJob
from carrel.declare.mcp import McpServer
from carrel.declare.quotas import Quotas
from carrel.declare.roles import Role

ToolName = Literal["shell", "file_read", "file_write", "file_edit", "file_list", "file_search", "request_access"]
ALL_TOOLS: Final[tuple[ToolName, ...]] = (
    "shell", "file_read", "file_write", "file_edit", "file_list", "file_search", "request_access"
)  # fmt: skip
ModelPattern = Annotated[str, Field(min_length=1, max_length=129)]
"""A model's name, or a prefix of one that ends in `*`."""
ProviderPattern = Annotated[str, Field(min_length=1, max_length=65)]
"""The name of an OAuth provider, or a prefix of one that ends in `*`."""
BWRAP_MODE: Final = "bwrap"
"""The mode that is always there."""
RuntimeClass = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_.-]{0,63}|/[A-Za-z0-9_./+-]{1,255})$")]
"""The name of a program, or where one is."""
FileSize = Annotated[int, Field(ge=1 << 20, le=1 << 50)]
"""What a sandbox writes of its own as it starts, certificates above all, must be within it."""
CallName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
Thinking = Literal["off", "low", "medium", "high"]
Label = Annotated[str, Field(max_length=200)]


class Agent(Declared):
    """One agent of a tenant. ``model`` is the gateway's default where it is left out."""

    model: ModelName | None = Field(None, description="Default: `default_model` of `_gateway.yaml`.")
    fallbacks: tuple[ModelName, ...] = Field((), description="Tried in order when the model before fails for good.")
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Tokens of one answer at most. Default: the model's `max_output`."
    )
    thinking: Thinking = Field("off", description="How much a model that can think may think before it answers.")
    system_prompt: Annotated[str, Field(max_length=100_000)] = Field(
        "", description="What the agent is told before every conversation."
    )
    tools: tuple[ToolName, ...] = Field(ALL_TOOLS, description="Tools it may call; an empty list means none.")
    skills: tuple[Name, ...] = Field((), description="Installed skills that it is told, by name.")
    max_turns: Annotated[int, Field(ge=1, le=200)] = Field(
        25, description="Model calls at most for one message of the user's."
    )


class SeccompProfile(Declared):
    """Which system calls are refused besides, by a name that modes share. It can only narrow what the sandbox lets
    through."""

    deny_calls: tuple[CallName, ...] = Field((), description="System calls that are refused.")
    allow_calls: tuple[CallName, ...] | None = Field(
        None,
        description="The only system calls that are let through, of those that the sandbox has. Default: all of those.",
    )
    answer: Literal["refuse", "absent", "kill"] = Field(
        "refuse",
        description="What one that is refused gets: `refuse` EPERM, `absent` ENOSYS as if the kernel had none, `kill` "
        "the end of whoever makes it.",
    )


class SandboxMode(Declared):
    """A way to run commands, chosen by a tool's annotation or name. Its limits hold instead of the tenant's."""

    runtime: Literal["bwrap", "oci"] = Field(
        "bwrap",
        description="`bwrap`: bubblewrap. `oci`: a rootless container by an OCI runtime.",
    )
    runtime_class: RuntimeClass = Field(
        "crun",
        description="For `oci`: the runtime, as `crun`, `runc`, `runsc` (gVisor) or another with the same "
        "command line; or its path.",
    )
    engine: Literal["podman", "docker"] | None = Field(
        None,
        description="For `oci`: `podman` calls the runtime, rootless. Default: it is called directly, which is "
        "quicker. `docker` is refused with the reason.",
    )
    deny_calls: tuple[CallName, ...] = Field(
        (), description="System calls that are refused besides: a filter more, which can only refuse."
    )
    seccomp: Name | None = Field(None, description="A profile of `sandbox.profiles`, which refuses further ones.")
    memory_bytes: Bytes | None = Field(None, description="Memory, instead of the tenant's.")
    cpu_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        None, description="Processor time, instead of the tenant's."
    )
    pids: Annotated[int, Field(ge=2, le=32_768)] | None = Field(
        None, description="Processes and threads at a time, instead of the tenant's."
    )
    open_files: Annotated[int, Field(ge=16, le=1 << 20)] | None = Field(
        None, description="Descriptors of one process, instead of the tenant's."
    )
    file_size_bytes: FileSize | None = Field(None, description="The largest file, instead of the tenant's.")
    tmp_bytes: Bytes | None = Field(None, description="Size of `/tmp`, instead of the tenant's.")
    wall_seconds: Seconds | None = Field(None, description="Time from start to end, instead of the tenant's.")
    output_bytes: Bytes | None = Field(None, description="What is kept of one run's output, instead of the tenant's.")


class SandboxConfig(Declared):
    """The limits of one run of a tool; each says in `carrel status` by which mechanism it is held."""

    scope: Literal["tenant", "member", "session"] = Field(
        "tenant", description="Whose workspace a run sees: the whole tenant's, one person's, or one session's."
    )
    default_mode: Name = Field(
        BWRAP_MODE, description="The mode of tools for which no other is named: `bwrap`, or one of `modes`."
    )
    modes: dict[Name, SandboxMode] = Field(
        default_factory=dict,
        description="Modes by name. A tool's annotation is the name of its mode where there is one: the shell's is "
        "`untrusted_code`.",
    )
    profiles: dict[Name, SeccompProfile] = Field(
        default_factory=dict, description="Seccomp profiles by name, for `seccomp` of a mode."
    )
    tool_modes: dict[ToolName, Name] = Field(
        default_factory=dict, description="The mode of a tool, whatever its annotation is."
    )
    memory_bytes: Bytes = Field(1 << 30, description="Memory.")
    cpu_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(120, description="Processor time.")
    cpus: Annotated[float, Field(gt=0, le=4096)] | None = Field(
        None, description="Processors at a time of one sandbox, as `1.5`. Needs cgroups."
    )
    tenant_memory_bytes: Bytes | None = Field(
        None, description="Memory of all sandboxes of the tenant together. Needs cgroups."
    )
    tenant_cpus: Annotated[float, Field(gt=0, le=4096)] | None = Field(
        None, description="Processors at a time of all sandboxes of the tenant together. Needs cgroups."
    )
    pids: Annotated[int, Field(ge=2, le=32_768)] = Field(256, description="Processes and threads at a time.")
    open_files: Annotated[int, Field(ge=16, le=1 << 20)] = Field(1024, description="Descriptors of one process.")
    file_size_bytes: FileSize = Field(1 << 30, description="The largest file it may write; at least 1 MiB.")
    tmp_bytes: Bytes = Field(256 << 20, description="Size of `/tmp`, which is memory.")
    wall_seconds: Seconds = Field(120.0, description="Time from start to end, after which all of it is killed.")
    output_bytes: Bytes = Field(16 << 20, description="What is kept in full of one run's output.")
    concurrent: Annotated[int, Field(ge=1, le=1000)] = Field(8, description="Runs of one tenant at a time.")
    queued: Annotated[int, Field(ge=0, le=100_000)] = Field(
        256, description="Runs of one tenant that may wait for a place; one more is refused at once."
    )
    weight: Annotated[int, Field(ge=1, le=10_000)] = Field(
        100, description="The tenant's share of a machine that is full, against the weights of the others."
    )
    keep: bool = Field(
        False, description="Keep the sandbox between commands, so that what they start in the background lives on."
    )
    snapshot: Literal["off", "before_turn"] = Field(
        "before_turn",
        description="`before_turn`: a workspace that changed is snapshotted before a message's first command or edit.",
    )
    snapshots: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Snapshots that are kept of one workspace.")
    snapshots_automatic: Annotated[int, Field(ge=1, le=1000)] = Field(
        5,
        description="Snapshots that were made before a message and are kept of one workspace, beside those; all of a "
        "tenant's take at most so many times `snapshot_copy_bytes`, but for the newest.",
    )
    snapshot_copy_bytes: Bytes = Field(
        64 << 20,
        description="Where the file system cannot share content: the most that is copied before a message.",
    )
    snapshot_bytes: Bytes = Field(10 << 30, description="The largest workspace that a snapshot is made of.")
    keep_idle_seconds: Seconds = Field(
        600.0, description="A kept sandbox that is not used so long is stopped; the next command starts it anew."
    )


class TerminalConfig(Declared):
    """Terminals: shells of the tenant's people in its sandbox, with the sandbox's limits but for these."""

    enabled: bool = Field(True, description="Whether there are any.")
    most: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Terminals of the tenant at a time.")
    idle_seconds: Seconds = Field(
        3600.0, description="One in which nothing was typed and nothing shown for so long is ended."
    )
    total_seconds: Seconds = Field(43_200.0, description="The longest that one lives.")
    cpu_seconds: Annotated[int, Field(ge=1, le=864_000)] = Field(
        3600, description="Processor time of one, instead of the sandbox's."
    )
    scrollback_bytes: Annotated[int, Field(ge=1 << 17, le=16 << 20)] = Field(
        256 << 10, description="What is kept of what one showed, for who comes back to it; 128 KiB to 16 MiB."
    )
    record: Literal["never", "asked", "always"] = Field(
        "asked", description="Whether what one shows is recorded, as an asciicast: never, where asked for, or always."
    )
    record_bytes: Bytes = Field(32 << 20, description="The longest recording.")
    recordings: Annotated[int, Field(ge=1, le=1000)] = Field(20, description="Recordings that are kept, the newest.")


class Member(Declared):
    """A person of a tenant. The role bounds what any token that is bound to the person may do."""

    name: Name = Field(description="The person's short name.")
    role: Role = Field(
        "member",
        description="`owner`, `admin`: whatever a token's scopes allow. `member`: all but the scope `admin`. `viewer`: "
        "methods that only look (scope `rpc`), and no model.",
    )
    display_name: Label | None = Field(None, description="The person's name in full.")


class Memory(Declared):
    """How what a tenant's agents should remember is searched: by words always, by meaning with a model that embeds."""

    embedding_model: ModelName | None = Field(
        None, description="A model of `_gateway.yaml` that makes embeddings, of those the tenant may use."
    )


class TenantProvider(Declared):
    """A tenant's own key for a provider: used instead of the operator's, metered all the same, marked ``byo``."""

    api_key: SecretRef = Field(description="The tenant's own key, as `{secret: NAME}`.")


class TenantDefaults(Declared):
    """What `_gateway.yaml` may set for every tenant: the lowest layer over the built-in defaults."""

    quotas: Quotas = Field(Quotas(), description="Limits of use.")
    sandbox: SandboxConfig = Field(SandboxConfig(), description="Limits of one run of a tool.")
    terminal: TerminalConfig = Field(TerminalConfig(), description="Terminals in the sandbox.")
    packages: tuple[PackageName, ...] = Field((), description="Packages in the sandbox of a tenant that names none.")
    egress: Egress = Field(Egress(), description="Hosts that the sandbox of a tenant that names none may reach.")
    models: tuple[ModelPattern, ...] | None = Field(
        None, description="Models that tenants may use, as names or `prefix*`. Default: as allowlisted."
    )
    oauth_providers: tuple[ProviderPattern, ...] | None = Field(
        None,
        description="OAuth providers that tenants may connect with, as names or `prefix*`. Default: as allowlisted.",
    )


class Plan(Declared):
    """A named bundle of quotas, sandbox limits and features."""

    display_name: Label | None = Field(None, description="The plan's name in full.")
    quotas: Quotas = Field(Quotas(), description="Limits of use.")
    sandbox: SandboxConfig = Field(SandboxConfig(), description="Limits of one run of a tool.")
    terminal: TerminalConfig = Field(TerminalConfig(), description="Terminals in the sandbox.")
    egress: Egress = Field(Egress(), description="Hosts that the sandbox may reach.")
    models: tuple[ModelPattern, ...] | None = Field(None, description="Models of this plan, as names or `prefix*`.")
    oauth_providers: tuple[ProviderPattern, ...] | None = Field(
        None, description="OAuth providers of this plan, as names or `prefix*`."
    )
    max_members: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="People that a tenant on it may have in `members`. Default: as many as it likes."
    )
    max_thinking: Thinking | None = Field(
        None, description="The most that its agents think; one that asks for more gets this. Default: no limit."
    )
    billing: PlanBilling = Field(PlanBilling(), description="How its calls are priced, and what it pays a month.")


class Tenant(Declared):
    """One tenant as declared, or as it results from all layers (then every layer's keys are merged in)."""

    display_name: Label | None = Field(None, description="The tenant's name in full.")
    plan: Name | None = Field(None, description="A plan of `_plans.yaml`.")
    suspended: bool = Field(False, description="Refuse everything with `tenant_suspended`; the data stays.")
    protect: bool = Field(False, description="Refuse removal.")
    billed_from: Day | None = Field(
        None, description="The UTC day from which the plan's fee is owed: `2027-01-31`. Default: from always."
    )
    agents: dict[Name, Agent] = Field(
        default_factory=dict, description="Agents by name. Without any there is `main` on the default model."
    )
    models: tuple[ModelPattern, ...] | None = Field(
        None, description="Models it may use, as names or `prefix*`, in place of the plan's."
    )
    oauth_providers: tuple[ProviderPattern, ...] | None = Field(
        None, description="OAuth providers it may connect with, as names or `prefix*`, in place of the plan's."
    )
    packages: tuple[PackageName, ...] = Field((), description="Packages in its sandbox, of those allowlisted.")
    quotas: Quotas = Field(Quotas(), description="Limits of use, over the plan's.")
    sandbox: SandboxConfig = Field(SandboxConfig(), description="Limits of one run of a tool, over the plan's.")
    terminal: TerminalConfig = Field(TerminalConfig(), description="Terminals in the sandbox, over the plan's.")
    egress: Egress = Field(Egress(), description="Hosts that its sandbox may reach.")
    tokens: tuple[DeclaredToken, ...] = Field((), description="Tokens by digest, beside those that commands issue.")
    members: tuple[Member, ...] = Field((), description="People and their roles.")
    providers: dict[Name, TenantProvider] = Field(
        default_factory=dict, description="Its own keys for providers, by the provider's name in `_gateway.yaml`."
    )
    channels: dict[ChannelName, Channel] = Field(
        default_factory=dict, description="Messaging platforms through which people talk to its agents, by name."
    )
    cron: Annotated[dict[Name, DeclaredJob], Field(max_length=MOST_DECLARED)] = Field(
        default_factory=dict, description="Jobs by name, which are run when their time comes."
    )
    mcp_servers: dict[Name, McpServer] = Field(
        default_factory=dict,
        description="MCP servers that its programs reach at `/mcp/NAME`, of the hosts that are allowlisted.",
    )
    memory: Memory = Field(Memory(), description="How what agents should remember is searched.")
    voice: Kept = Field(None, description="Kept for a later version; not acted upon.")
    backup: TenantBackup = Field(TenantBackup(), description="What is different about its backups.")


NOT_ACTED_UPON: Final = ("voice",)
"""Keys that are accepted and warned about: what they declare comes with a later version."""

OVERLAY_KEYS: Final = ("display_name", "packages", "cron", "memory", "voice", "egress")
"""Top-level keys that a tenant may write in its overlay, beside those of `OVERLAY_AGENT_KEYS` under `agents`."""

OVERLAY_AGENT_KEYS: Final = ("model", "max_tokens", "thinking", "system_prompt", "tools", "skills")
"""Keys of one agent that a tenant may write in its overlay."""
