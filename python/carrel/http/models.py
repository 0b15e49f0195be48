"""`GET /v1/models`: the tenant's agents and the models that it may use, as OpenAI lists them.

A caller that names a version of Anthropic's API gets them in pages, as Anthropic lists them.
"""

from typing import Any, Final, Literal

from aiohttp import web

from carrel.errors import InvalidRequest, ModelNotFound
from carrel.http.exchange import Exchange
from carrel.http.routes import Route
from carrel.policy.models import allowed_models
from carrel.policy.names import agent_named, agents_of, is_agent
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.wire import anthropic_answer

Vendor = Literal["openai", "anthropic"]
PAGE: Final = 20
MOST: Final = 1000


async def list_models(exchange: Exchange) -> web.StreamResponse:
    """All of them."""
    tenant = exchange.tenant("chat").tenant
    names = [f"agent:{name}" for name in agents_of(tenant)]
    names += allowed_models(exchange.snapshot, tenant)
    if exchange.dialect == "anthropic":
        return web.json_response(_page(exchange, names))
    return web.json_response({"object": "list", "data": [model_entry(exchange.snapshot, name) for name in names]})


def _page(exchange: Exchange, names: list[str]) -> dict[str, Any]:
    """The part of ``names`` that the query wants: `limit` of them, behind `after_id` or before `before_id`."""
    query = exchange.request.query
    text = query.get("limit", str(PAGE))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if not 1 <= limit <= MOST:
        raise InvalidRequest(f"`limit` is a whole number from 1 to {MOST}.", param="limit")
    after, before = query.get("after_id"), query.get("before_id")
    for param, name in (("after_id", after), ("before_id", before)):
        if name is not None and name not in names:
            raise InvalidRequest(f"`{param}` names no model that you may use.", param=param)
    if before is not None:
        left = names[: names.index(before)]
        shown, more = left[-limit:], len(left) > limit
    else:
        left = names[names.index(after) + 1 :] if after is not None else names
        shown, more = left[:limit], len(left) > limit
    entries = [_entry(exchange.snapshot, "anthropic", name) for name in shown]
    return anthropic_answer.model_page(entries, more=more)


async def show_model(exchange: Exchange) -> web.StreamResponse:
    """One of them; what a tenant may not use is not there."""
    tenant = exchange.tenant("chat").tenant
    name = exchange.request.match_info["model"]
    if is_agent(name):
        agent_named(tenant, name)
    else:
        _require(name, allowed_models(exchange.snapshot, tenant))
    vendor: Vendor = "anthropic" if exchange.dialect == "anthropic" else "openai"
    return web.json_response(_entry(exchange.snapshot, vendor, name))


def listed(snapshot: Snapshot, tenant: Tenant, vendor: Vendor) -> dict[str, Any]:
    """The models of ``vendor``'s dialect that ``tenant`` may use, in its form."""
    entries = [_entry(snapshot, vendor, name) for name in served_by(snapshot, tenant, vendor)]
    return anthropic_answer.model_page(entries) if vendor == "anthropic" else {"object": "list", "data": entries}


def shown(snapshot: Snapshot, tenant: Tenant, vendor: Vendor, name: str) -> dict[str, Any]:
    """One of those; raises ModelNotFound."""
    _require(name, served_by(snapshot, tenant, vendor))
    return _entry(snapshot, vendor, name)


def served_by(snapshot: Snapshot, tenant: Tenant, vendor: Vendor) -> tuple[str, ...]:
    """The names of the models of ``vendor``'s dialect that ``tenant`` may use."""
    gateway = snapshot.gateway
    kinds = {name: config.kind for name, config in gateway.providers.items()}
    return tuple(
        name for name in allowed_models(snapshot, tenant) if kinds.get(gateway.models[name].provider) == vendor
    )  # fmt: skip


def _require(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ModelNotFound(f"There is no model {name[:80]!r}; GET /v1/models lists what there is.")


def _entry(snapshot: Snapshot, vendor: Vendor, name: str) -> dict[str, Any]:
    if vendor == "openai":
        return model_entry(snapshot, name)
    model = snapshot.model(name)
    if model is None:
        return anthropic_answer.model_entry(name)
    return anthropic_answer.model_entry(name, context_window=model.context_window, max_output=model.max_output)


def model_entry(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """A model as OpenAI describes one."""
    model = snapshot.model(name)
    entry: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "carrel"}
    if model is not None:
        entry |= {
            "owned_by": model.provider,
            "context_window": model.context_window,
            "max_output_tokens": model.max_output,
        }
    return entry


ROUTES: Final = (
    Route("GET", "/v1/models", list_models, "tenant-chat", "The agents and models that the tenant may use.",
          dialect="openai", by_version=True),
    # A model's name may hold slashes.
    Route("GET", "/v1/models/{model:.+}", show_model, "tenant-chat", "One agent or model.",
          dialect="openai", by_version=True),
)  # fmt: skip
