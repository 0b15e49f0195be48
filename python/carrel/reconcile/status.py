"""What the reconciler reports: how what is declared took effect, tenant by tenant."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from carrel.ids import TenantId
from carrel.plan.conditions import Condition, State
from carrel.plan.plan import Plan
from carrel.reconcile.inventory import Deleted
from carrel.reconcile.standing import Result
from carrel.tenancy.handle import Snapshot

Watching = Literal["inotify", "polling", "no"]


@dataclass(frozen=True, slots=True)
class TenantStatus:
    """One tenant. ``state`` sums its conditions up; ``reason`` is one word for machines, ``message`` a sentence.

    ``observed_revision`` is the SHA-256 of the file as last read, ``applied_revision`` that of what is in force.
    ``results`` are the last reconciles that changed something or failed to, oldest first.
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
    conditions: tuple[Condition, ...] = ()
    results: tuple[Result, ...] = ()
    drift: tuple[str, ...] = ()
    delete_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TenantBrief:
    """Of one tenant what a list shows."""

    id: TenantId
    state: State
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """All of it. ``problems`` are no one tenant's; with state Stalled what was in force before stays.

    ``confirm`` is the word for `carrel reconcile --confirm` where removals wait for it. ``uncommitted`` names
    declarations with changes that are in no commit.
    """

    state: Literal["Ready", "Stalled"]
    revision: str
    tenants_dir: str
    watching: Watching
    last_pass: datetime | None
    last_pass_seconds: float
    problems: tuple[str, ...]
    conditions: tuple[Condition, ...]
    confirm: str
    deleted: tuple[Deleted, ...]
    tenants: tuple[TenantStatus, ...]
    uncommitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciled(Plan):
    """What came of a reconcile that was asked for: the plan that was carried out, and how tenants stand after it.

    ``tenants`` is the one that was named, or all that something happened to or that are not as they should be.
    """

    tenants: tuple[TenantStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """One change that came into force, for whoever acts on it: ``previous`` is None at the first load."""

    snapshot: Snapshot
    previous: Snapshot | None
    plan: Plan
