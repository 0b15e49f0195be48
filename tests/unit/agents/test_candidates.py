"""Which models may be asked, by table."""

from pathlib import Path

import pytest

from carrel.agents.candidates import agent_of, fallbacks, primary, require_images
from carrel.declare.tenant import Agent
from carrel.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, NotFound
from tests.fakes.agents import models
from tests.fakes.tenants import make_snapshot, make_tenant


def test_an_agent_is_found_by_its_name(tmp_path: Path) -> None:
    declared = make_tenant(tmp_path, agents={"ada": Agent(model="demo")})
    assert agent_of(declared, "ada").model == "demo"
    for name in ("main", "other"):
        with pytest.raises(NotFound):
            agent_of(declared, name)
    bare = make_tenant(tmp_path, "bare", agents={})
    assert agent_of(bare, "main") == Agent()
    with pytest.raises(NotFound):
        agent_of(bare, "other")


def test_the_agents_model_else_the_default_one(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    snapshot = make_snapshot(tenant, models=models(), default_model="second")
    assert primary(snapshot, tenant, Agent(model="demo")).name == "demo"
    assert primary(snapshot, tenant, Agent()).name == "second"
    with pytest.raises(InvalidRequest, match="has no model"):
        primary(make_snapshot(tenant, default_model=None), tenant, Agent())
    with pytest.raises(ModelNotFound):
        primary(snapshot, tenant, Agent(model="nothing"))


def test_a_model_that_is_not_allowed_is_refused_first_and_passed_over_later(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, models=("demo",))
    snapshot = make_snapshot(tenant, models=models())
    with pytest.raises(ModelNotAllowed):
        primary(snapshot, tenant, Agent(model="second"))
    assert list(fallbacks(snapshot, tenant, Agent(model="demo", fallbacks=("second", "nothing")))) == []
    free = make_tenant(tmp_path, "free")
    named = fallbacks(snapshot, free, Agent(model="demo", fallbacks=("second", "demo", "second")))
    assert [candidate.name for candidate in named] == ["second"]


def test_images_need_a_model_that_takes_them(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path)
    snapshot = make_snapshot(tenant, models=models(inputs=("text", "image")))
    require_images(primary(snapshot, tenant, Agent(model="demo")))
    with pytest.raises(InvalidRequest, match="takes no images"):
        require_images(primary(snapshot, tenant, Agent(model="second")))


def test_the_vendors_name_and_the_own_key(tmp_path: Path) -> None:
    tenant = make_tenant(tmp_path, providers={"other": {"api_key": {"secret": "KEY"}}})
    declared = models()
    snapshot = make_snapshot(
        tenant, models={**declared, "demo": declared["demo"].model_copy(update={"upstream": "v1"})}
    )
    own, operators = (primary(snapshot, tenant, Agent(model=name)) for name in ("second", "demo"))
    assert (own.byo, own.upstream) == (True, "second")
    assert (operators.byo, operators.upstream) == (False, "v1")
