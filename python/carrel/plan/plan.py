"""What would change: everything declared, held against the inventory and what is in force. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from carrel.declare.load import Judged, Tree
from carrel.declare.tenant import Tenant
from carrel.ids import TenantId
from carrel.plan.changes import Change, changes
from carrel.plan.removal import confirmation, judge_loss

Verb = Literal["create", "update", "suspend", "resume", "remove", "hold", "refuse", "delete", "unchanged", "broken"]
"""``remove`` suspends and keeps the data, ``delete`` makes a final backup and deletes it. ``hold`` is a removal that
waits to be confirmed, ``refuse`` one of a protected tenant. ``broken`` leaves the tenant on what is in force."""


@dataclass(frozen=True, slots=True)
class ObservedTenant:
    """One tenant as it is in force. ``config`` is its effective configuration as JSON values.

    ``delete_at`` is when a removed one is to be deleted, None where it is kept; ``drift`` how its state differs from
    what was made.
    """

    revision: str
    config: Mapping[str, Any]
    suspended: bool = False
    removed: bool = False
    delete_at: datetime | None = None
    drift: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """What is in force ``at`` a time. ``operators`` are the operator's files as JSON values, by file; empty at first.

    ``lately`` is how many tenants were lost in the last minute, ``loss_percent`` how many may be at once.
    """

    revision: str = ""
    operators: Mapping[str, Any] = field(default_factory=dict)
    tenants: Mapping[str, ObservedTenant] = field(default_factory=dict)
    at: datetime | None = None
    lately: int = 0
    loss_percent: float = 20.0


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to one tenant, with the keys that change and what is wrong."""

    tenant: str
    verb: Verb
    changes: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reconcile does. ``operator_changes`` are by file; ``problems`` are no one tenant's.

    ``operators_broken``: the operator's own files are, so that nothing changes whatever else they say. ``confirm``
    is the word that confirms what is held; ``drift`` is by tenant.
    """

    operator_changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    problems: tuple[str, ...] = ()
    confirm: str = ""
    drift: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    operators_broken: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.operator_changes and all(a.verb in _IDLE for a in self.actions)

    def count(self, verb: Verb) -> int:
        """How many tenants that happens to."""
        return sum(action.verb == verb for action in self.actions)

    def __str__(self) -> str:
        lines: list[str] = []
        for file, changed in self.operator_changes.items():
            lines += [f"~ {file}", *(f"    {change}" for change in changed)]
        for action in self.actions:
            if action.verb != "unchanged":
                lines += [f"{_MARKS[action.verb]} {action.tenant}: {action.verb}"]
                lines += [f"    {change}" for change in action.changes]
                lines += [f"    {problem}" for problem in action.problems]
        lines += [f"! {tenant}: drift: {text}" for tenant, texts in self.drift.items() for text in texts]
        lines += list(self.problems)
        if self.confirm:
            lines.append(f"what is held is done by `carrel reconcile --confirm {self.confirm}`")
        counts = [f"{n} {verb}" for verb in _MARKS if (n := self.count(verb))]
        return "\n".join([*lines, ", ".join(counts) or "nothing changes"])


_IDLE: Collection[Verb] = ("unchanged", "broken", "hold", "refuse")
_MARKS: Mapping[Verb, str] = {
    "create": "+",
    "update": "~",
    "suspend": "-",
    "resume": "+",
    "remove": "-",
    "delete": "-",
    "hold": "!",
    "refuse": "!",
    "broken": "!",
    "unchanged": " ",
}


def compute_plan(desired: Tree, observed: Observed) -> Plan:
    """What changes when ``desired`` comes into force over ``observed``.

    Where the operator's own files are broken nothing does: no tenant can be judged without them.
    """
    problems = tuple(str(p) for p in desired.problems if p.file.removesuffix(".yaml") not in desired.tenants)
    if desired.operators is None:
        return Plan(problems=problems, operators_broken=True)
    now = desired.operators.document()
    operator_changes = {
        file: found for file in now if (found := tuple(changes(observed.operators.get(file, {}), now[file])))
    }
    actions = [tenant_action(t, judged, observed.tenants.get(t)) for t, judged in desired.tenants.items()]
    actions += _removals(desired, observed)
    drift = {t: seen.drift for t, seen in sorted(observed.tenants.items()) if seen.drift}
    held = sorted(action.tenant for action in actions if action.verb == "hold")
    confirm = confirmation(map(TenantId, held)) if held else ""
    return Plan(operator_changes, tuple(sorted(actions, key=lambda a: a.tenant)), problems, confirm, drift)


def _removals(desired: Tree, observed: Observed) -> list[Action]:
    """What happens to those that are in force, or were, and are not declared."""
    gone = {TenantId(t): seen for t, seen in observed.tenants.items() if t not in desired.tenants}
    loss = judge_loss(
        [t for t, seen in gone.items() if not seen.removed],
        declared=len(desired.tenants),
        lately=observed.lately,
        share=observed.loss_percent / 100,
        protected=[t for t, seen in gone.items() if seen.config.get("protect")],
    )
    actions = [Action(t, "remove") for t in loss.suspend] + [Action(t, "hold") for t in loss.held]
    actions += [Action(t, "refuse", problems=(f"{t}.yaml is gone, and it is protected",)) for t in loss.refused]
    now = observed.at
    for tenant, seen in gone.items():
        if seen.removed and seen.delete_at is not None and now is not None and seen.delete_at <= now:
            actions.append(Action(tenant, "delete"))
    return actions


def tenant_action(tenant: TenantId, judged: Judged, seen: ObservedTenant | None) -> Action:
    """What happens to one declared tenant."""
    problems = tuple(str(problem) for problem in judged.problems)
    if judged.config is None:
        return Action(tenant, "broken", problems=problems)
    config = judged.config
    if seen is not None and seen.revision == judged.revision and not seen.removed:
        return Action(tenant, "unchanged", problems=problems)
    found = tuple(changes(seen.config if seen is not None else {}, as_json(config)))
    return Action(tenant, _verb(config, seen, found), found, problems)


def _verb(config: Tenant, seen: ObservedTenant | None, found: tuple[Change, ...]) -> Verb:
    if seen is None:
        return "create"
    if seen.suspended and not config.suspended:
        return "resume"
    if config.suspended and not seen.suspended:
        return "suspend"
    return "update" if found or seen.removed else "unchanged"


def as_json(config: Tenant) -> dict[str, Any]:
    """A configuration as JSON values, without what is default."""
    return config.model_dump(mode="json", exclude_defaults=True)
