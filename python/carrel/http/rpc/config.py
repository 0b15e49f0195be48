"""`config.get` and `config.schema`."""

from typing import Any

from carrel.declare.tenant import NOT_ACTED_UPON, OVERLAY_AGENT_KEYS, OVERLAY_KEYS, Tenant
from carrel.http.rpc.registry import Context, Registry
from carrel.wire import rpc


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("config.get")(get)
    registry.method("config.schema")(schema)


async def get(context: Context, params: rpc.NoParams) -> rpc.ConfigView:
    """The effective configuration: defaults, plan, file and overlay merged, with digests left out."""
    tenant = context.tenant
    unused = [key for key in NOT_ACTED_UPON if getattr(tenant.config, key) is not None]
    return rpc.ConfigView(
        valid=tenant.problem is None,
        config=redacted(tenant.config),
        hash=tenant.revision,
        issues=(tenant.problem,) if tenant.problem else (),
        warnings=tuple(f"`{key}` is kept and not acted upon in this version." for key in unused),
        tenant_writable_keys=(*OVERLAY_KEYS, *(f"agents.*.{key}" for key in OVERLAY_AGENT_KEYS)),
    )


async def schema(context: Context, params: rpc.NoParams) -> rpc.ConfigSchema:
    """The JSON Schema of a tenant's file."""
    return rpc.ConfigSchema(
        json_schema=Tenant.model_json_schema(),
        version=context.services.version,
        generated_at=context.services.clock.now().isoformat(),
    )


def redacted(config: Tenant) -> dict[str, Any]:
    """``config`` as JSON without digests of tokens; secrets are in it by name only."""
    shown = config.model_dump(mode="json", exclude_none=True)
    for token in shown.get("tokens", []):
        token["sha256"] = "***"
    return shown
