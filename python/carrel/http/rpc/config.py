"""`config.*`: the effective configuration, and what the tenant sets of it in its overlay."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from carrel.declare.egress import OVERLAY_EGRESS_KEYS
from carrel.declare.problems import nearest
from carrel.declare.tenant import NOT_ACTED_UPON, OVERLAY_AGENT_KEYS, OVERLAY_KEYS, Tenant
from carrel.errors import Forbidden, InvalidRequest
from carrel.http.engines import Changes
from carrel.http.rpc.registry import Context, Registry, engines
from carrel.tenancy.handle import Tenant as Handle
from carrel.vcs.edits import DELETE
from carrel.wire import rpc
from carrel.wire.control import Actor
from carrel.wire.rpc_agents import ConfigPatchParams, ConfigSetParams


class AdminOnlyKey(Forbidden):
    """A key that only the operator may set; nothing of the change was taken."""

    code = "admin_only_key"


def register(registry: Registry) -> None:
    """Add these methods to ``registry``."""
    registry.method("config.get")(get)
    registry.method("config.schema")(schema)
    registry.method("config.set", changes=True)(set_)
    registry.method("config.patch", changes=True)(patch)


async def get(context: Context, params: rpc.NoParams) -> rpc.ConfigView:
    """The effective configuration: defaults, plan, file and overlay merged, with digests left out."""
    overlay = await engines(context).settings.overlay(context.tenant.id) if context.services.engines else {}
    return _shown(context.tenant, overlay)


async def set_(context: Context, params: ConfigSetParams) -> rpc.ConfigView:
    """Replace the tenant's overlay; in force when this returns, or refused as a whole."""

    def changes(overlay: dict[str, Any]) -> Changes:
        gone: dict[tuple[str, ...], object] = {(key,): DELETE for key in overlay if key not in params.config}
        return {**gone, **{(key,): value for key, value in params.config.items()}}

    _judge(params.config)
    return await _changed(context, changes, "config.set", params.base_hash)


async def patch(context: Context, params: ConfigPatchParams) -> rpc.ConfigView:
    """Change the tenant's overlay by a merge patch; in force when this returns, or refused as a whole."""

    def changes(overlay: dict[str, Any]) -> Changes:
        return dict(merged(overlay, params.patch))

    _judge(params.patch)
    return await _changed(context, changes, "config.patch", params.base_hash)


async def _changed(
    context: Context, changes: Callable[[dict[str, Any]], Changes], action: str, base: str | None
) -> rpc.ConfigView:
    settings = engines(context).settings
    # A call that a gateway's death cut off was judged against its base before it died.
    seen = None if context.again else base
    by = Actor(context.actor, context.request_id)
    changed = await settings.change(context.tenant.id, changes, action=action, by=by, base=seen)
    context.services.hub.publish(changed, "config.changed", {"hash": changed.revision})
    return _shown(changed, await settings.overlay(changed.id))


def merged(
    overlay: Mapping[str, Any], patch: Mapping[str, Any], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], object]]:
    """What RFC 7396 makes of ``overlay``, as changes at paths. Without a change where there is nothing to take out."""
    for key, value in patch.items():
        path, before = (*at, key), overlay.get(key)
        if value is None:
            if key in overlay:
                yield path, DELETE
        elif isinstance(value, dict) and isinstance(before, dict) and before:
            yield from merged(before, value, path)
        else:
            yield path, _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(below) for key, below in value.items() if below is not None}
    return value


def _judge(values: Mapping[str, Any]) -> None:
    """Raise AdminOnlyKey, or InvalidRequest, for a key that no overlay may hold."""
    for key, value in values.items():
        below = value if isinstance(value, dict) else {}
        if key == "agents":
            for name, agent in below.items():
                for field in agent if isinstance(agent, dict) else ():
                    if field not in OVERLAY_AGENT_KEYS:
                        raise _refused(f"agents.{name}.{field}", field, OVERLAY_AGENT_KEYS)
        elif key not in OVERLAY_KEYS:
            raise _refused(key, key, (*OVERLAY_KEYS, "agents"), known=key in Tenant.model_fields)
        elif key == "egress":
            for field in below:
                if field not in OVERLAY_EGRESS_KEYS:
                    raise _refused(f"egress.{field}", field, OVERLAY_EGRESS_KEYS)


def _refused(path: str, key: str, allowed: tuple[str, ...], *, known: bool = True) -> Forbidden | InvalidRequest:
    if known:
        told = f"`{path}` is the operator's to set, in the tenant's file; a tenant may set {', '.join(allowed)}."
        return AdminOnlyKey(told, details={"path": path, "allowed": list(allowed)})
    close = nearest(key, (*Tenant.model_fields, "agents"))
    hint = f"; did you mean {close}?" if close else "."
    return InvalidRequest(f"There is no key {path!r}{hint}", param=path)


def _shown(tenant: Handle, overlay: dict[str, Any]) -> rpc.ConfigView:
    unused = [key for key in NOT_ACTED_UPON if getattr(tenant.config, key)]
    return rpc.ConfigView(
        valid=tenant.problem is None,
        config=redacted(tenant.config),
        overlay=overlay,
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
