"""Which models a turn may ask, in order: the agent's own, then its fallbacks, those that can serve the request."""

from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from carrel.declare.gateway import ModelConfig
from carrel.declare.tenant import Agent
from carrel.errors import CarrelError, InvalidRequest, NotFound
from carrel.policy.models import allowed
from carrel.tenancy.handle import Snapshot, Tenant

_log = structlog.get_logger(__name__)
DEFAULT_AGENT = "main"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may be asked: ``name`` is what is billed, ``upstream`` what its vendor calls it."""

    name: str
    config: ModelConfig
    byo: bool

    @property
    def upstream(self) -> str:
        """The vendor's name for it."""
        return self.config.upstream or self.name


def agent_of(tenant: Tenant, name: str) -> Agent:
    """The tenant's agent called ``name``; one without any has ``main``. Raises NotFound."""
    found = tenant.config.agents.get(name)
    if found is not None:
        return found
    if not tenant.config.agents and name == DEFAULT_AGENT:
        return Agent()
    raise NotFound(f"There is no agent {name[:80]!r}.")


def primary(snapshot: Snapshot, tenant: Tenant, agent: Agent) -> Candidate:
    """The agent's own model; raises ModelNotFound, ModelNotAllowed, and InvalidRequest where none is set."""
    name = agent.model or snapshot.gateway.default_model
    if name is None:
        raise InvalidRequest("This agent has no model: set its `model`, or `default_model` in `_gateway.yaml`.")
    return _candidate(snapshot, tenant, name)


def fallbacks(snapshot: Snapshot, tenant: Tenant, agent: Agent) -> Iterator[Candidate]:
    """The models to ask when the agent's own fails; one that the tenant may not use is passed over."""
    first = agent.model or snapshot.gateway.default_model
    for name in dict.fromkeys(agent.fallbacks):
        if name == first:
            continue
        try:
            yield _candidate(snapshot, tenant, name)
        except CarrelError as error:
            _log.warning("a fallback model cannot be used", tenant=tenant.id, model=name, error=error.message)


def require_images(candidate: Candidate) -> None:
    """Raise InvalidRequest where the model takes no images."""
    if "image" not in candidate.config.inputs:
        raise InvalidRequest(f"Model {candidate.name!r} takes no images.", param="messages")


def _candidate(snapshot: Snapshot, tenant: Tenant, name: str) -> Candidate:
    allowed(snapshot, tenant, name)
    config = snapshot.gateway.models[name]
    return Candidate(name, config, byo=config.provider in tenant.config.providers)
