"""Where requests go: a table of every endpoint and every kind of model."""

from dataclasses import replace
from pathlib import Path

import pytest

from carrel.declare.gateway import ModelConfig
from carrel.declare.tenant import Memory
from carrel.errors import InvalidRequest, ModelNotAllowed, ModelNotFound, NotFound
from carrel.policy.ways import Endpoint, Through, ToAgent, Translated, fallbacks_of, way_of
from carrel.tenancy.handle import Snapshot, Tenant
from tests.fakes.edge import edge_snapshot
from tests.fakes.tenants import make_tenant

ENDPOINTS: tuple[Endpoint, ...] = ("chat", "messages", "count_tokens", "responses", "embeddings")


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return make_tenant(tmp_path, "acme")


def declared(tenant: Tenant, **models: ModelConfig) -> Snapshot:
    snapshot = edge_snapshot(tenant)
    gateway = snapshot.gateway.model_copy(update={"models": {**snapshot.gateway.models, **models}})
    return replace(snapshot, gateway=gateway)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_endpoint_and_kind(tenant: Tenant, endpoint: Endpoint) -> None:
    snapshot = declared(tenant)
    kinds = {}
    for model in ("agent:main", "vendor-large", "claude-large", "demo"):
        try:
            kinds[model] = type(way_of(snapshot, tenant, endpoint, model))
        except InvalidRequest:
            continue
    anthropics = endpoint in ("messages", "count_tokens")
    if endpoint == "embeddings":
        assert kinds == {"vendor-large": Through}
    else:
        assert kinds == {
            "agent:main": ToAgent, "demo": Translated, "vendor-large": Translated if anthropics else Through,
            "claude-large": Through if anthropics else Translated,
        }  # fmt: skip


def test_an_agents_embeddings_are_its_memorys(tenant: Tenant) -> None:
    memory = tenant.config.model_copy(update={"memory": Memory(embedding_model="vendor-large")})
    way = way_of(declared(tenant), replace(tenant, config=memory), "embeddings", "agent:main")
    assert isinstance(way, Through)
    assert way.model == "vendor-large"


def test_what_is_not_there_or_not_allowed(tenant: Tenant) -> None:
    snapshot = declared(tenant, lost=ModelConfig(provider="gone"))
    with pytest.raises(ModelNotFound):
        way_of(snapshot, tenant, "chat", "nope")
    with pytest.raises(ModelNotFound):
        way_of(snapshot, tenant, "chat", "agent:nobody")
    with pytest.raises(NotFound):
        way_of(snapshot, tenant, "chat", "lost")
    narrow = replace(tenant, config=tenant.config.model_copy(update={"models": ("demo",)}))
    with pytest.raises(ModelNotAllowed):
        way_of(snapshot, narrow, "chat", "vendor-large")


def test_fallbacks_in_order_without_those_that_cannot_be_used(tenant: Tenant) -> None:
    names = ("first", "nope", "claude-large", "demo", "claude-large")
    snapshot = declared(tenant, first=ModelConfig(provider="vendor", fallbacks=names))
    way = way_of(snapshot, tenant, "chat", "first")
    assert [one.model for one in fallbacks_of(snapshot, tenant, "chat", way)] == ["claude-large", "demo"]
    assert list(fallbacks_of(snapshot, tenant, "embeddings", way)) == []
    assert list(fallbacks_of(snapshot, tenant, "chat", ToAgent("main"))) == []
