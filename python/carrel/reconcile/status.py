"""What the reconciler reports: how what is declared took effect, tenant by tenant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from carrel.ids import TenantId
from carrel.plan.plan import Plan
from carrel.tenancy.handle import Snapshot

State = Literal["Ready", "Suspended", "Stalled", "Removed"]


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """One tenant. ``reason`` is one word for machines, ``message`` a sentence.

    ``observed_revision`` is the SHA-256 of the file as last read, ``applied_revision`` that of what is in force.
    """

    id: TenantId
    state: State
    reason: str
    message: str
    file: str | None
    plan: str | None
    packages: tuple[str, ...]
    observed_revision: str
    applied_revision: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """All of it. ``problems`` are no one tenant's; with state Stalled what was in force before stays."""

    state: Literal["Ready", "Stalled"]
    revision: str
    tenants_dir: str
    watching: Literal["inotify", "polling", "no"]
    last_pass: datetime | None
    last_pass_seconds: float
    problems: tuple[str, ...]
    tenants: tuple[TenantStatus, ...]


@dataclass(frozen=True, slots=True)
class Applied:
    """One change that came into force, for whoever acts on it: ``previous`` is None at the first load."""

    snapshot: Snapshot
    previous: Snapshot | None
    plan: Plan
