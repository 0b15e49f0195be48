"""Rows of how tenants stood."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from carrel.declare.tenant import Tenant as TenantConfig
from carrel.ids import TenantId
from carrel.plan.conditions import Facts, claims_of
from carrel.plan.drift import Drift
from carrel.reconcile.rows import Row
from carrel.reconcile.standing import Stood
from carrel.tenancy.handle import Tenant
from carrel.tenancy.paths import LazyTenantRoot

SINCE = datetime(2026, 3, 1, tzinfo=UTC)


def row(name: str, *, drift: tuple[Drift, ...] = (), removed: bool = False, last: str = "[]") -> Row:
    """A tenant that is in force and well, or removed."""
    held = Tenant(
        TenantId(name), TenantConfig(plan="pro", packages=("jq",)), "r1", LazyTenantRoot(str(Path("/nowhere", name))),
        suspended=removed, removed=removed,
    )  # fmt: skip
    claims = claims_of(Facts(suspended=removed))
    stood = Stood(claims, " ".join([SINCE.isoformat()] * len(claims)), "o1", last)
    return Row(held, None, stood, drift, SINCE + timedelta(days=30) if removed else None)
