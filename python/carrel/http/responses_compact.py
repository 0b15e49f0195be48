"""`/v1/responses/compact`: a conversation becomes its user's words and a summary, by a call of the model that is named.

The summary travels in the item that its dialect has for it, opaque to callers, and is opened again by whichever model
goes on with it: no vendor's own seal would be another's to read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

from aiohttp import web

from carrel.agents.compaction import SYSTEM, excerpt, request_for_summary
from carrel.agents.history import Said
from carrel.agents.sizes import text_of
from carrel.declare.gateway import ModelConfig
from carrel.errors import InvalidRequest, UpstreamError
from carrel.http.exchange import Exchange
from carrel.http.model_calls import MODEL_HEADER, model_in, with_fallbacks
from carrel.http.responses import with_earlier
from carrel.http.routes import Route
from carrel.http.streaming import closing
from carrel.http.translated import translated_events
from carrel.policy.ways import ToAgent, Translated, Way, way_of
from carrel.relay.body import parse_body
from carrel.wire.conversation import Finished, Message, ModelRequest
from carrel.wire.proofs import seal_summary
from carrel.wire.responses_items import conversation, listed, refuse_inside
from carrel.wire.responses_request import parse
from carrel.wire.usage import usage_to_responses

Json = dict[str, Any]
_TAKEN: Final = frozenset({
    "model", "input", "instructions", "previous_response_id", "prompt_cache_key", "prompt_cache_retention",
    "prompt_cache_options", "user", "metadata", "safety_identifier",
})  # fmt: skip
_NEUTRAL: Final[Mapping[str, tuple[object, ...]]] = {"service_tier": ("auto", "default")}
_ROLES: Final = ("user", "developer", "system")


@dataclass(frozen=True, slots=True)
class _Summary:
    """What is asked of a model. ``told`` are the instructions that the conversation was held under."""

    messages: tuple[Message, ...]
    told: str
    config: ModelConfig

    def to_model(self, *, model: str, max_output: int) -> ModelRequest:
        """See `asked.Asked`."""
        window = max(self.config.context_window - len(self.told.encode()) // 2, self.config.context_window // 4)
        asked = request_for_summary(
            [Said(message) for message in self.messages], model=model, context_window=window, max_output=max_output
        )
        if not self.told:
            return asked
        system = f"{SYSTEM} The assistant in this one has these instructions:\n\n{self.told}"
        return ModelRequest(model, asked.messages, system, max_tokens=asked.max_tokens)


async def compact(exchange: Exchange) -> web.StreamResponse:
    """Make a conversation shorter, metered as the call that it is."""
    tenant = exchange.tenant("chat").tenant
    body = await exchange.body(limit=exchange.snapshot.gateway.max_body_bytes)
    way = way_of(exchange.snapshot, tenant, "responses", model_in(body))
    if isinstance(way, ToAgent):
        raise InvalidRequest(
            "An agent makes room in its session by itself, and `sessions.compact` has it do so now. Name a model to "
            "compact items.", param="model",
        )  # fmt: skip
    _refuse(parse_body(body))
    asked = await with_earlier(exchange, tenant, parse(body))
    items = (*asked.earlier, *asked.request.items)
    system, messages = conversation(items)
    told = "\n\n".join([*filter(None, [asked.request.instructions]), *system])
    size = len(body)

    async def go(way: Way) -> tuple[str, Finished]:
        if isinstance(way, ToAgent):
            raise TypeError("an agent is no fallback of a model")
        by_adapter = Translated(way.model, way.config)
        summary = _Summary(messages, told, way.config)
        events = translated_events(exchange, tenant, by_adapter, summary, size=size)
        async with closing(events):
            async for event in events:
                if isinstance(event, Finished):
                    return way.model, event
        raise UpstreamError("The model's answer ended too early.", retryable=True)

    used, finished = await with_fallbacks(exchange, tenant, "responses", way, go)
    # What no model wrote is stood in for, as in an agent's session: the conversation goes on in any case.
    text = text_of(finished.message).strip() or excerpt([Said(message) for message in messages])
    key = token_hex(16)
    words = [item for item in items if item.get("type", "message") == "message" and item.get("role") in _ROLES]
    item = {"id": f"cmp_{key}", "type": "compaction", "encrypted_content": seal_summary(text)}
    answer = {
        "id": f"resp_{key}", "object": "response.compaction",
        "created_at": int(exchange.services.clock.now().timestamp()), "output": [*listed(words, f"resp_{key}"), item],
        "usage": None if finished.usage is None else usage_to_responses(finished.usage),
    }  # fmt: skip
    return web.json_response(answer, headers={} if used == asked.model else {MODEL_HEADER: used})


def _refuse(request: Json) -> None:
    for name, value in request.items():
        if value not in _NEUTRAL.get(name, ()):
            refuse_inside({name: value}, "", _TAKEN, who="a compaction")


ROUTES: Final = (
    Route("POST", "/v1/responses/compact", compact, "tenant-chat", "Make a conversation shorter, by a model.",
          dialect="openai"),
)  # fmt: skip
