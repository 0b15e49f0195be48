"""``_gateway.yaml``: providers, models, the default model, admin keys, and what every tenant starts from."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from carrel.declare.admin_keys import AdminKey
from carrel.declare.backup import BackupConfig
from carrel.declare.base import Declared, ModelName, Name, Seconds, SecretRef
from carrel.declare.channels import ChannelsConfig
from carrel.declare.oauth import OAuthProvider
from carrel.declare.tenant import TenantDefaults


class CircuitConfig(Declared):
    """When a provider that fails is not asked for a while.

    What a caller did wrong is no failure, and neither is a limit of the vendor's (429).
    """

    failures: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        10, description="Failures within the window that open it, where they are half of the calls. `null`: never."
    )
    window_seconds: Seconds = Field(30.0, description="How long a failure counts.")
    open_seconds: Seconds = Field(15.0, description="How long nobody asks; then one call tries for all.")


class ProviderConfig(Declared):
    """One model provider. ``kind`` is the wire dialect it speaks; ``demo`` is built in, offline and free of keys."""

    kind: Literal["anthropic", "openai", "demo"] = Field(
        description="The dialect it speaks. `openai` serves every OpenAI-compatible server."
    )
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=2000)] | None = Field(
        None, description="Default: the vendor's public API. Set it for any OpenAI-compatible server."
    )
    api_key: SecretRef | None = Field(None, description="The key, as `{secret: NAME}`; left out where none is needed.")
    timeout_seconds: Seconds = Field(600.0, description="The deadline of one call, first byte to last.")
    first_byte_seconds: Seconds = Field(120.0, description="How long a call may wait for its first byte.")
    max_retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2,
        description="Tries after the first on 408/409/429/5xx and connection loss, before the first byte only.",
    )
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = Field(
        256, description="Connections open at a time, shared out fairly: one tenant has three quarters of them at most."
    )
    hedge_after_ms: Annotated[int, Field(ge=0, le=600_000)] | None = Field(
        None,
        description="Make a stream that has said nothing after so many milliseconds once more, and take whichever "
        "begins first; both are in the bill. Default: never. A model may say it for itself.",
    )
    circuit: CircuitConfig = Field(CircuitConfig(), description="What happens where it fails again and again.")


class ModelConfig(Declared):
    """One model as callers may name it."""

    provider: Name = Field(description="The provider that serves it, by its name under `providers`.")
    upstream: ModelName | None = Field(None, description="The vendor's name for it; default: the same name.")
    context_window: Annotated[int, Field(ge=256, le=1 << 31)] = Field(
        128_000, description="Tokens of prompt and answer together; long transcripts are compacted before it."
    )
    max_output: Annotated[int, Field(ge=16, le=1 << 31)] = Field(
        8_192, description="Tokens of one answer at most; what a call without `max_tokens` reserves."
    )
    inputs: tuple[Literal["text", "image", "audio"], ...] = Field(
        ("text",),
        description="What a message may hold. `audio` says, too, that its rates hold for sound, heard or made; without "
        "it sound is served with a tenant's own key alone.",
    )
    fallbacks: tuple[ModelName, ...] = Field(
        (),
        description="Models to ask, in order, where this one fails before its answer began. Calls of the model itself "
        "alone: an agent has its own `fallbacks`.",
    )
    hedge_after_ms: Annotated[int, Field(ge=0, le=600_000)] | None = Field(
        None,
        description="The same as the provider's `hedge_after_ms`, for this model; 0 is never.",
    )


class PackagesConfig(Declared):
    """Where packages come from."""

    source: Literal["none", "index", "nixpkgs", "test-set"] = Field(
        "none",
        description="`index`: what the machine has built beforehand; `nixpkgs`: built from the pinned nixpkgs when "
        "wanted; `test-set`: the package set made from Debian packages.",
    )
    path: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The nixpkgs or package-set directory, or the index; default: what the NixOS module sets.",
    )
    store: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="The Nix store, as `--store` takes it, or `daemon`, the machine's; default: one in the state, and "
        "for an index the machine's.",
    )
    copy_closures: bool = Field(
        True,
        description="Copy the files of a store that is another user's or on another mount, as on NixOS, so that "
        "a sandbox starts with one mount. Without it each store path is a mount of its own.",
    )
    substituters: tuple[Annotated[str, Field(pattern=r"^[a-z0-9+]+://[^\s@]+$", max_length=2000)], ...] = Field(
        (), description="Binary caches for `nixpkgs`; default: Nix's own. A daemon has its own list."
    )
    trusted_public_keys: tuple[Annotated[str, Field(pattern=r"^[^\s:]+:[A-Za-z0-9+/=]+$", max_length=500)], ...] = (
        Field((), description="Whose signatures the binary caches' packages must bear; named with `substituters`.")
    )
    evaluation_seconds: Seconds = Field(120.0, description="How long Nix may evaluate one environment.")
    evaluation_memory_bytes: Annotated[int, Field(ge=64 << 20, le=1 << 40)] = Field(
        2 << 30, description="The memory that evaluating one environment may take."
    )
    build_timeout_seconds: Seconds = Field(600.0, description="How long one environment may take to build.")
    collect_after_seconds: Seconds = Field(
        86_400.0, description="How long an environment stays that no tenant wants and no sandbox uses."
    )
    build_silent_seconds: Seconds = Field(600.0, description="How long one build may say nothing in its log.")
    build_log_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 30)] = Field(
        16 << 20, description="The log that one build may write; it is stopped beyond that."
    )


class ReconcileConfig(Declared):
    """How what is declared is made so, where that would take something away."""

    drift: Literal["correct", "report"] = Field(
        "correct",
        description="What is done about state that was changed from outside: `correct` puts right what can be without "
        "losing anything; `report` only tells.",
    )
    delete_after_seconds: Annotated[float, Field(ge=0, le=10 * 366 * 86_400)] | None = Field(
        30 * 86_400.0,
        description="How long the data of a tenant whose file is gone is kept; then a final backup is made and it is "
        "deleted. `null` keeps it for good.",
    )
    loss_percent: Annotated[float, Field(ge=0, le=100)] = Field(
        20.0,
        description="More tenants than this, and more than one, gone at once are suspended only when that is confirmed "
        "(`carrel reconcile --confirm`). So is the loss of all.",
    )


Origin = Annotated[str, Field(pattern=r"^https?://(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(:[0-9]{1,5})?$")]


class BrowserConfig(Declared):
    """Browsers that log in with a tenant's token."""

    origins: tuple[Origin, ...] = Field(
        (),
        description="Origins of pages that may speak to the gateway beside its own, as `https://carrel.example.com`.",
    )
    session_seconds: Seconds = Field(43_200.0, description="How long a browser stays logged in.")


def _share(value: object) -> object:
    """The loader gives every fraction as an exact Decimal, and a whole number as it is."""
    return float(value) if isinstance(value, Decimal | int) and not isinstance(value, bool) else value


Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_share)]
"""A part of a whole."""


class TracesConfig(Declared):
    """Traces by OpenTelemetry, of requests, the model calls and the sandbox commands beneath them."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@]+$", max_length=2000)] | None = Field(
        None,
        description="Where they are sent by OTLP over HTTP, as `http://127.0.0.1:4318/v1/traces`. Default: nowhere. "
        "Needs the extra `carrel[traces]`.",
    )
    sample: Share = Field(1.0, description="The share of requests that are traced.")


class Gateway(Declared):
    """The operator's file."""

    providers: dict[Name, ProviderConfig] = Field(default_factory=dict, description="Model providers by name.")
    models: dict[ModelName, ModelConfig] = Field(
        default_factory=dict,
        description="Models by the name that callers use. Each needs a price in `_rate-card.yaml`.",
    )
    default_model: ModelName | None = Field(None, description="The model of agents that name none.")
    admin_keys: tuple[AdminKey, ...] = Field((), description="Keys of the control plane, by digest.")
    require_closure: bool = Field(False, description="Refuse to run tools where the closure cannot be given.")
    packages: PackagesConfig = Field(PackagesConfig(), description="Where sandboxes' packages come from.")
    reconcile: ReconcileConfig = Field(ReconcileConfig(), description="What removal and drift lead to.")
    backup: BackupConfig = Field(BackupConfig(), description="Backups of tenants.")
    browser: BrowserConfig = Field(BrowserConfig(), description="Browsers that log in with a tenant's token.")
    public_url: Origin | None = Field(
        None,
        description="Where browsers reach the gateway, as `https://carrel.example.com`: what links are made of. "
        "Default: the address that it listens on.",
    )
    oauth_providers: dict[Name, OAuthProvider] = Field(
        default_factory=dict, description="Services whose accounts tenants' people connect, by name."
    )
    traces: TracesConfig = Field(TracesConfig(), description="Where traces are sent.")
    channels: ChannelsConfig = Field(ChannelsConfig(), description="What channels of all tenants share.")
    max_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = Field(
        32 * 1024 * 1024, description="The largest request body."
    )
    defaults: TenantDefaults = Field(TenantDefaults(), description="What every tenant starts from, below its plan.")
