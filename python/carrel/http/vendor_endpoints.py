"""The vendors' other endpoints for one answer: messages, the count of their tokens, and embeddings."""

from typing import Final

from aiohttp import web

from carrel.http.exchange import Exchange
from carrel.http.model_calls import call, model_in, pass_through
from carrel.http.routes import Route
from carrel.http.translated import prompt_tokens
from carrel.policy.ways import Through, Translated, way_of
from carrel.wire.anthropic_request import parse
from carrel.wire.conversation import ModelRequest

ESTIMATED: Final = "X-Carrel-Estimated"


async def messages(exchange: Exchange) -> web.StreamResponse:
    """An answer in Anthropic's dialect."""
    return await call(exchange, "messages")


async def count_tokens(exchange: Exchange) -> web.StreamResponse:
    """How many tokens a message has; a request like any other, and none of the day's tokens.

    Only the vendor of the dialect counts. For others, and for agents, it is an estimate of what was sent, and says so.
    """
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    body = await exchange.body(limit=exchange.snapshot.gateway.max_body_bytes)
    way = way_of(exchange.snapshot, tenant, "count_tokens", model_in(body))
    if isinstance(way, Through):
        return await pass_through(exchange, tenant, "count_tokens", way, body)
    asked = parse(body, counts=True)
    limit = asked.request.max_tokens or 1
    if isinstance(way, Translated):
        request = asked.to_model(model=way.model, max_output=max(limit, way.config.max_output))
    else:
        taken = asked.to_agent()
        request = ModelRequest(asked.model, taken.messages, taken.system)
    return web.json_response({"input_tokens": prompt_tokens(request)}, headers={ESTIMATED: "input_tokens"})


async def embeddings(exchange: Exchange) -> web.StreamResponse:
    """Vectors of texts."""
    return await call(exchange, "embeddings")


ROUTES: Final = (
    Route("POST", "/v1/messages", messages, "tenant-chat", "A message, by an agent or a model.", dialect="anthropic",
          counts=True),
    Route("POST", "/v1/messages/count_tokens", count_tokens, "tenant-chat", "How many tokens a message has.",
          dialect="anthropic", counts=True),
    Route("POST", "/v1/embeddings", embeddings, "tenant-chat", "Vectors of texts, by a model or an agent's memory's.",
          dialect="openai", counts=True),
)  # fmt: skip
