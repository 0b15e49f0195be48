"""The names of agents, under the several spellings that callers use for them in place of a model."""

import re
from typing import Final

from carrel.errors import ModelNotFound
from carrel.tenancy.handle import Tenant

DEFAULT_AGENT: Final = "main"
_AGENT: Final = re.compile(r"(?:agent:|openclaw:|openclaw/)([a-z0-9][a-z0-9_-]{0,63})")
_SHOWN: Final = 20


def agents_of(tenant: Tenant) -> tuple[str, ...]:
    """The tenant's agents; one without any has ``main``."""
    return tuple(tenant.config.agents) or (DEFAULT_AGENT,)


def default_agent(tenant: Tenant) -> str:
    """The agent that is meant where none is named: ``main``, else the first."""
    agents = agents_of(tenant)
    return DEFAULT_AGENT if DEFAULT_AGENT in agents else agents[0]


def is_agent(name: str) -> bool:
    """Whether ``name`` speaks of an agent and not of a provider's model."""
    return name == "openclaw" or name.startswith(("agent:", "openclaw:", "openclaw/"))


def agent_named(tenant: Tenant, name: str) -> str:
    """The agent that the model name ``name`` means; raises ModelNotFound."""
    if name in ("openclaw", "openclaw/default"):
        return default_agent(tenant)
    match = _AGENT.fullmatch(name)
    if match is None or match[1] not in agents_of(tenant):
        raise ModelNotFound(f"There is no agent {name[:80]!r}; GET /v1/models lists what there is.")
    return match[1]


def require_agent(tenant: Tenant, name: str | None) -> str:
    """The agent called ``name``, the default one for None; raises ModelNotFound."""
    if name is not None and name not in agents_of(tenant):
        raise ModelNotFound(f"There is no agent {name[:80]!r}; there are {', '.join(agents_of(tenant)[:_SHOWN])}.")
    return default_agent(tenant) if name is None else name
