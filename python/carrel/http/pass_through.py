"""The vendors' other endpoints: messages, responses and embeddings, straight through to a vendor of that dialect.

Agents and translation between the dialects are at `POST /v1/chat/completions`.
"""

from typing import Final

from aiohttp import web

from carrel.errors import InvalidRequest
from carrel.http.chat import model_in
from carrel.http.exchange import Exchange
from carrel.http.names import is_agent
from carrel.http.routes import Route
from carrel.policy.models import allowed
from carrel.relay.dialects.embeddings import EmbeddingsFields
from carrel.relay.dialects.messages import CountFields, MessagesFields
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.dialects.responses import ResponsesFields


async def messages(exchange: Exchange) -> web.StreamResponse:
    """An answer in Anthropic's dialect."""
    return await _passed(exchange, MessagesFields)


async def count_tokens(exchange: Exchange) -> web.StreamResponse:
    """How many tokens a message has; a request like any other, and none of the day's tokens."""
    return await _passed(exchange, CountFields)


async def responses(exchange: Exchange) -> web.StreamResponse:
    """An answer in the dialect of OpenAI's Responses."""
    return await _passed(exchange, ResponsesFields)


async def embeddings(exchange: Exchange) -> web.StreamResponse:
    """Vectors of texts."""
    return await _passed(exchange, EmbeddingsFields)


async def _passed(exchange: Exchange, dialect: type[CallFields]) -> web.StreamResponse:
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    snapshot = exchange.snapshot
    body = await exchange.body(limit=snapshot.gateway.max_body_bytes)
    name = model_in(body)
    if is_agent(name):
        raise InvalidRequest(
            "Agents answer at POST /v1/chat/completions; this endpoint takes the name of a model.", param="model"
        )
    allowed(snapshot, tenant, name)
    return await exchange.services.relay.handle(
        exchange.request, tenant, snapshot, exchange.request_id, body, dialect=dialect
    )  # fmt: skip


ROUTES: Final = (
    Route("POST", "/v1/messages", messages, "tenant-chat", "A message, by a model of Anthropic's dialect.",
          dialect="anthropic"),
    Route("POST", "/v1/messages/count_tokens", count_tokens, "tenant-chat", "How many tokens a message has.",
          dialect="anthropic"),
    Route("POST", "/v1/responses", responses, "tenant-chat", "A response, by a model of OpenAI's dialect.",
          dialect="openai"),
    Route("POST", "/v1/embeddings", embeddings, "tenant-chat", "Vectors of texts, by a model of OpenAI's dialect.",
          dialect="openai"),
)  # fmt: skip
