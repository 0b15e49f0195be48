"""Layers of a tenant's declaration, low to high: the gateway's defaults, the plan, the tenant's file, its overlay.

Layers are JSON values of the keys that each really sets. Mappings merge key by key, lists and everything else replace.
The built-in defaults are the models' own and need no layer.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

from carrel.declare.egress import OVERLAY_EGRESS_KEYS
from carrel.declare.problems import Finding
from carrel.declare.tenant import ALL_TOOLS, OVERLAY_AGENT_KEYS, OVERLAY_KEYS, Tenant, Thinking

Layer = Mapping[str, Any]
_LEVELS: Final = get_args(Thinking)
_ADMIN_ONLY: Final = "only the operator may set this, in the tenant's file: take it out of the overlay"


def merge(low: Layer, high: Layer) -> dict[str, Any]:
    """``high`` over ``low``; neither is changed."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if not isinstance(value, Mapping):
            merged[key] = value
        elif isinstance(below, Mapping):
            merged[key] = merge(below, value)
        elif isinstance(below, int | str) and value and value.keys() <= {"hard", "soft"}:
            merged[key] = {"hard": below, **value}  # a bare number is a hard limit
        else:
            merged[key] = value
    return merged


def effective(
    base: Layer, declared: Layer, overlay: Layer | None, default_model: str | None, max_thinking: Thinking | None = None
) -> dict[str, Any]:
    """All layers as one, with every agent there, its model named, and none that thinks more than ``max_thinking``."""
    merged = merge(base, declared) if base else dict(declared)
    if overlay:
        merged = _with_overlay(merged, overlay)
    agents = merged.get("agents") or {"main": {}}
    if default_model is not None:
        agents = {
            name: agent if agent.get("model") is not None else {**agent, "model": default_model}
            for name, agent in agents.items()
        }
    if max_thinking is not None:
        agents = {name: _thinking(agent, max_thinking) for name, agent in agents.items()}
    merged["agents"] = agents
    return merged


def _thinking(agent: Layer, most: Thinking) -> Layer:
    asked = agent.get("thinking", "off")
    over = asked in _LEVELS and _LEVELS.index(asked) > _LEVELS.index(most)
    return {**agent, "thinking": most} if over else agent


def _with_overlay(merged: dict[str, Any], overlay: Layer) -> dict[str, Any]:
    result = merge(merged, {key: value for key, value in overlay.items() if key != "egress"})
    own, egress = overlay.get("egress", {}), dict(merged.get("egress", {}))
    if own.get("deny"):
        egress["deny"] = [*egress.get("deny", ()), *own["deny"]]
    if own.get("allow") is not None:
        # It opens nothing: what it names must be open beneath it too.
        egress["only"] = own["allow"]
    if own:
        result["egress"] = egress
    return result


def overlay_findings(overlay: Layer, below: Layer) -> Iterator[Finding]:
    """What a tenant's overlay may not say over ``below``, the layers beneath it."""
    for key, value in overlay.items():
        if key == "agents":
            for name, agent in value.items():
                yield from _agent_findings(name, agent, below.get("agents", {}).get(name, {}))
        elif key not in OVERLAY_KEYS:
            known = key in Tenant.model_fields
            wrong = _ADMIN_ONLY if known else "unknown key"
            yield Finding((key,), wrong, allowed=(*OVERLAY_KEYS, "agents"), at_key=True)
    for key in overlay.get("egress", {}):
        if key not in OVERLAY_EGRESS_KEYS:
            yield Finding(("egress", key), _ADMIN_ONLY, allowed=OVERLAY_EGRESS_KEYS, at_key=True)


def _agent_findings(name: str, agent: Layer, below: Layer) -> Iterator[Finding]:
    for key in agent:
        if key not in OVERLAY_AGENT_KEYS:
            yield Finding(("agents", name, key), _ADMIN_ONLY, allowed=OVERLAY_AGENT_KEYS, at_key=True)
    tools = below.get("tools", ALL_TOOLS)
    for index, tool in enumerate(agent.get("tools", ())):
        if tool not in tools:
            yield Finding(("agents", name, "tools", index), "the operator does not give this tool", tool, tuple(tools))
