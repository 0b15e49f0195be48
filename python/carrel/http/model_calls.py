"""A request to a model or an agent, at whichever endpoint: where it goes is decided once, and then it goes there.

Where a model fails before its answer began, those declared as its fallbacks are asked in their order.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Final, TypeVar

import structlog
from aiohttp import web

from carrel.errors import InvalidRequest, UpstreamError
from carrel.http.agent_answer import agent_answer
from carrel.http.exchange import Exchange
from carrel.http.kept_completions import keeper, passed_on
from carrel.http.saying import Kept, say
from carrel.http.translated import translated_events
from carrel.policy.ways import Endpoint, Through, ToAgent, Translated, Way, fallbacks_of, way_of
from carrel.relay.body import parse_body
from carrel.relay.dialects.chat import ChatFields
from carrel.relay.dialects.embeddings import EmbeddingsFields
from carrel.relay.dialects.messages import CountFields, MessagesFields
from carrel.relay.dialects.protocol import CallFields
from carrel.relay.dialects.responses import ResponsesFields
from carrel.relay.splice import replace_members
from carrel.tenancy.handle import Tenant
from carrel.wire import anthropic_request, openai_chat
from carrel.wire.asked import Asked

FIELDS: Final[Mapping[Endpoint, type[CallFields]]] = {
    "chat": ChatFields,
    "messages": MessagesFields,
    "count_tokens": CountFields,
    "responses": ResponsesFields,
    "embeddings": EmbeddingsFields,
}
PARSE: Final[Mapping[Endpoint, Callable[[bytes], Asked]]] = {
    "chat": lambda body: openai_chat.ChatAsked(openai_chat.parse(body)),
    "messages": anthropic_request.parse,
}
_LEADING_MODEL: Final = re.compile(rb'\s*\{\s*"model"\s*:\s*"([A-Za-z0-9._:/@+-]{1,128})"')
MODEL_HEADER: Final = "X-Carrel-Model"
_CALLERS_FAULT: Final = frozenset({400, 413, 422})
T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def call(exchange: Exchange, endpoint: Endpoint) -> web.StreamResponse:
    """Answer a request at ``endpoint``."""
    tenant = exchange.tenant("chat").tenant
    await exchange.services.meter.admit_request(tenant)
    body = await exchange.body(limit=exchange.snapshot.gateway.max_body_bytes)
    way = way_of(exchange.snapshot, tenant, endpoint, model_in(body))

    keep = keeper(exchange, tenant, body) if endpoint == "chat" else None

    async def one(way: Way) -> web.StreamResponse:
        return await _go(exchange, tenant, endpoint, way, body, keep=keep)

    return await with_fallbacks(exchange, tenant, endpoint, way, one)


async def with_fallbacks(
    exchange: Exchange, tenant: Tenant, endpoint: Endpoint, way: Way, go: Callable[[Way], Awaitable[T]]
) -> T:
    """What ``go`` gives for ``way``, or for the next of its fallbacks where the provider failed without a word."""
    for following in fallbacks_of(exchange.snapshot, tenant, endpoint, way):
        try:
            return await go(way)
        except UpstreamError as error:
            if error.status in _CALLERS_FAULT:
                raise
            _log.warning(
                "falling back to the next model", request_id=exchange.request_id, next=following.model,
                error=error.message,
            )  # fmt: skip
        way = following
    return await go(way)


async def _go(
    exchange: Exchange, tenant: Tenant, endpoint: Endpoint, way: Way, body: bytes, *, keep: Kept | None
) -> web.StreamResponse:
    if isinstance(way, Through):
        if keep is not None:
            return await passed_on(exchange, tenant, naming(body, way.model), keep)
        return await pass_through(exchange, tenant, endpoint, way, body)
    # As strictly as where it passes: a key that is there twice is read in two ways.
    parse_body(body)
    asked = PARSE[endpoint](body)
    # What is kept has an id of its own, for a caller may give two requests the same.
    answer_id = exchange.request_id if keep is None else token_hex(16)
    if isinstance(way, ToAgent):
        return await agent_answer(exchange, tenant, way.name, asked, id=answer_id, kept=keep)
    events = translated_events(exchange, tenant, way, asked, size=len(body))
    return await say(exchange, asked, events, id=answer_id, headers=in_place_of(asked, way), kept=keep)


def in_place_of(asked: Asked, way: Translated) -> Mapping[str, str]:
    """Who answers, where that is another than who was asked: the answer is written as the caller's model's."""
    return {} if way.model == asked.model else {MODEL_HEADER: way.model}


async def pass_through(
    exchange: Exchange, tenant: Tenant, endpoint: Endpoint, way: Through, body: bytes
) -> web.StreamResponse:
    """The vendor's own answer to ``body``, which may name another model than ``way`` does."""
    return await exchange.services.relay.handle(
        exchange.request, tenant, exchange.snapshot, exchange.request_id, naming(body, way.model),
        dialect=FIELDS[endpoint],
    )  # fmt: skip


def naming(body: bytes, model: str) -> bytes:
    """``body`` with ``model`` in it, whatever it named before."""
    if model_in(body) == model:
        return body
    parse_body(body)
    return replace_members(body, {"model": model})


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
