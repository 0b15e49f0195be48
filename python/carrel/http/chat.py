"""`POST /v1/chat/completions`: to an agent, straight through to a vendor, or translated, by the model's name."""

import json
import re
from typing import Final

from aiohttp import web

from carrel.errors import InvalidRequest
from carrel.http.agent_chat import agent_completion
from carrel.http.exchange import Exchange
from carrel.http.names import agent_named, is_agent
from carrel.http.routes import Route
from carrel.http.translated import translated_completion
from carrel.policy.models import allowed

_LEADING_MODEL: Final = re.compile(rb'\s*\{\s*"model"\s*:\s*"([A-Za-z0-9._:/@+-]{1,128})"')


async def chat_completions(exchange: Exchange) -> web.StreamResponse:
    """One completion, streaming or not."""
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    snapshot = exchange.snapshot
    body = await exchange.body(limit=snapshot.gateway.max_body_bytes)
    name = model_in(body)
    if is_agent(name):
        return await agent_completion(exchange, tenant, agent_named(tenant, name), body)
    allowed(snapshot, tenant, name)
    model = snapshot.gateway.models[name]
    provider = snapshot.gateway.providers.get(model.provider)
    if provider is not None and provider.kind == "openai":
        return await exchange.services.relay.handle(exchange.request, tenant, snapshot, exchange.request_id, body)
    return await translated_completion(exchange, tenant, name, model, body)


def model_in(body: bytes) -> str:
    """The model that a request names: only the way is chosen by it, whoever serves it reads the body for itself."""
    leading = _LEADING_MODEL.match(body)
    if leading is not None:
        return leading[1].decode("ascii")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.")
    name = value.get("model")
    if not isinstance(name, str) or not name:
        wrong = "is missing" if name is None or name == "" else "is text"
        raise InvalidRequest(f"`model` {wrong}: name an agent (`agent:main`) or a model.", param="model")
    return name


ROUTES: Final = (
    Route("POST", "/v1/chat/completions", chat_completions, "tenant-chat", "A completion, by an agent or a model.",
          dialect="openai"),
)  # fmt: skip
