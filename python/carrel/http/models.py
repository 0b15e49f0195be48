"""`GET /v1/models`: the tenant's agents and the models that it may use, as OpenAI lists them."""

from typing import Any, Final

from aiohttp import web

from carrel.errors import ModelNotFound
from carrel.http.exchange import Exchange
from carrel.http.names import agent_named, agents_of, is_agent
from carrel.http.routes import Route
from carrel.policy.models import allowed_models
from carrel.tenancy.handle import Snapshot, Tenant


async def list_models(exchange: Exchange) -> web.StreamResponse:
    """All of them."""
    tenant = exchange.tenant("chat").tenant
    names = [f"agent:{name}" for name in agents_of(tenant)]
    names += allowed_models(exchange.snapshot, tenant)
    return web.json_response({"object": "list", "data": [model_entry(exchange.snapshot, name) for name in names]})


async def show_model(exchange: Exchange) -> web.StreamResponse:
    """One of them; what a tenant may not use is not there."""
    tenant = exchange.tenant("chat").tenant
    name = exchange.request.match_info["model"]
    _require_visible(exchange.snapshot, tenant, name)
    return web.json_response(model_entry(exchange.snapshot, name))


def _require_visible(snapshot: Snapshot, tenant: Tenant, name: str) -> None:
    if is_agent(name):
        agent_named(tenant, name)
    elif name not in allowed_models(snapshot, tenant):
        raise ModelNotFound(f"There is no model {name[:80]!r}; GET /v1/models lists what there is.")


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
          dialect="openai"),
    # A model's name may hold slashes.
    Route("GET", "/v1/models/{model:.+}", show_model, "tenant-chat", "One agent or model.", dialect="openai"),
)  # fmt: skip
