"""What may be named as a model."""

from pathlib import Path

import pytest

from carrel.declare.tenant import Agent
from carrel.errors import ModelNotFound
from carrel.policy.names import (
    agent_named,
    agents_of,
    default_agent,
    is_agent,
    require_agent,
)
from tests.fakes.tenants import make_tenant


def test_agents_and_the_default_one(tmp_path: Path) -> None:
    many = make_tenant(tmp_path, "a", agents={"writer": Agent(), "main": Agent()})
    other = make_tenant(tmp_path, "b", agents={"writer": Agent(), "coder": Agent()})
    none = make_tenant(tmp_path, "c", agents={})
    try:
        assert [default_agent(t) for t in (many, other, none)] == ["main", "writer", "main"]
        assert agents_of(none) == ("main",)
        assert agent_named(other, "openclaw") == "writer"
        assert agent_named(other, "openclaw/coder") == "coder"
        assert agent_named(many, "agent:writer") == "writer"
        assert require_agent(many, None) == "main"
        for name in ("agent:coder", "agent:", "agent:WRITER", "openclaw/../x"):
            with pytest.raises(ModelNotFound):
                agent_named(many, name)
    finally:
        for tenant in (many, other, none):
            tenant.root.close()


def test_what_speaks_of_an_agent() -> None:
    assert all(map(is_agent, ("agent:x", "openclaw", "openclaw/x", "openclaw:x")))
    assert not any(map(is_agent, ("openclaws", "demo", "agents")))
