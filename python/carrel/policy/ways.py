"""Which way a request to a model goes: to an agent, straight through to its vendor, or translated for another one.

The one place where that is decided, for every endpoint.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from carrel.declare.gateway import ModelConfig
from carrel.errors import CarrelError, InvalidRequest, NotFound
from carrel.policy.models import allowed
from carrel.policy.names import agent_named, is_agent
from carrel.tenancy.handle import Snapshot, Tenant

Endpoint = Literal["chat", "messages", "count_tokens", "responses", "embeddings"]
OWN_KIND: Final[Mapping[Endpoint, str]] = {
    "chat": "openai",
    "messages": "anthropic",
    "count_tokens": "anthropic",
    "responses": "openai",
    "embeddings": "openai",
}
"""The kind of provider whose own dialect an endpoint speaks."""


@dataclass(frozen=True, slots=True)
class ToAgent:
    """The request is a turn of the agent ``name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Through:
    """The request passes to the vendor as it is."""

    model: str
    config: ModelConfig


@dataclass(frozen=True, slots=True)
class Translated:
    """The request's provider is called through its adapter, and its answer said in the caller's dialect."""

    model: str
    config: ModelConfig


Way = ToAgent | Through | Translated


def way_of(snapshot: Snapshot, tenant: Tenant, endpoint: Endpoint, model: str) -> Way:
    """The way of a request for ``model``.

    Raises ModelNotFound, ModelNotAllowed, NotFound for a provider that is not declared, and InvalidRequest where the
    model has nothing of the kind that the endpoint is for.
    """
    if is_agent(model):
        agent = agent_named(tenant, model)
        if endpoint != "embeddings":
            return ToAgent(agent)
        chosen = tenant.config.memory.embedding_model
        if chosen is None:
            raise InvalidRequest(
                "This tenant's memory has no `embedding_model`: set one, or name a model that makes embeddings.",
                param="model",
            )
        model = chosen
    allowed(snapshot, tenant, model)
    config = snapshot.gateway.models[model]
    provider = snapshot.gateway.providers.get(config.provider)
    if provider is None:
        raise NotFound(f"No provider is called {config.provider!r}.")
    if provider.kind == OWN_KIND[endpoint]:
        return Through(model, config)
    if endpoint == "embeddings":
        raise InvalidRequest(
            f"Model {model!r} makes no embeddings: its provider's dialect has none.", param="model",
            details={"reason": "other_dialect"},
        )  # fmt: skip
    return Translated(model, config)


def fallbacks_of(
    snapshot: Snapshot, tenant: Tenant, endpoint: Endpoint, way: Way
) -> Iterator[Through | Translated]:  # fmt: skip
    """The ways to go where the model of ``way`` fails, in order; one that the tenant may not use is passed over.

    An agent has its own. Embeddings of different models are no substitutes for each other, nor are counts of tokens.
    """
    if isinstance(way, ToAgent) or endpoint in ("embeddings", "count_tokens"):
        return
    for name in dict.fromkeys(way.config.fallbacks):
        if name == way.model:
            continue
        try:
            following = way_of(snapshot, tenant, endpoint, name)
        except CarrelError:
            continue
        if not isinstance(following, ToAgent):
            yield following
