"""Tenants and snapshots for tests that need a handle and not a reconciler."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import Gateway, ModelConfig, ProviderConfig
from carrel.declare.rate_card import RateCard, Rates
from carrel.declare.tenant import Agent
from carrel.declare.tenant import Tenant as TenantConfig
from carrel.ids import parse_tenant_id
from carrel.tenancy.handle import Snapshot, Tenant
from carrel.tenancy.paths import TenantRoot


def make_tenant(state: Path, name: str = "acme", *, suspended: bool = False, **config: Any) -> Tenant:
    """A tenant whose root is made under ``state``/tenants; ``config`` are fields of the declared Tenant."""
    config.setdefault("agents", {"main": Agent(model="demo")})
    root = TenantRoot.open(state / "tenants" / name, create=True)
    return Tenant(parse_tenant_id(name), TenantConfig(**config), "0" * 64, root, suspended=suspended)


def make_snapshot(*tenants: Tenant, **gateway: Any) -> Snapshot:
    """A snapshot with a demo provider and model, a price for it, and the given tenants."""
    gateway.setdefault("providers", {"demo": ProviderConfig(kind="demo")})
    gateway.setdefault("models", {"demo": ModelConfig(provider="demo", context_window=32_768, max_output=4_096)})
    gateway.setdefault("default_model", "demo")
    card = RateCard(markup=Decimal("1.25"), models={"demo": Rates(input=Decimal(1), output=Decimal(2))})
    return Snapshot("r1", Gateway(**gateway), card, "c" * 64, Allowlists(), {t.id: t for t in tenants})
