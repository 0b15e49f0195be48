"""What would change: everything declared, held against what is in force. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from carrel.declare.load import Judged, Tree
from carrel.declare.tenant import Tenant
from carrel.ids import TenantId
from carrel.plan.changes import Change, changes

Verb = Literal["create", "update", "suspend", "resume", "remove", "unchanged", "broken"]
"""``remove`` suspends and keeps the data; ``broken`` leaves the tenant on what is in force."""


@dataclass(frozen=True, slots=True)
class ObservedTenant:
    """One tenant as it is in force. ``config`` is its effective configuration as JSON values."""

    revision: str
    config: Mapping[str, Any]
    suspended: bool = False
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What is in force. ``operators`` are the operator's files as JSON values, by file; empty before the first load."""

    revision: str = ""
    operators: Mapping[str, Any] = field(default_factory=dict)
    tenants: Mapping[str, ObservedTenant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to one tenant, with the keys that change and what is wrong."""

    tenant: str
    verb: Verb
    changes: tuple[Change, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a reconcile does. ``operator_changes`` are by file; ``problems`` are no one tenant's."""

    operator_changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.operator_changes and all(a.verb in ("unchanged", "broken") for a in self.actions)

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
        lines += list(self.problems)
        counts = [f"{n} {verb}" for verb in _MARKS if (n := self.count(verb))]
        return "\n".join([*lines, ", ".join(counts) or "nothing declared"])


_MARKS: Mapping[Verb, str] = {
    "create": "+",
    "update": "~",
    "suspend": "-",
    "resume": "+",
    "remove": "-",
    "broken": "!",
    "unchanged": " ",
}


def compute_plan(desired: Tree, observed: Observed) -> Plan:
    """What changes when ``desired`` comes into force over ``observed``.

    Where the operator's own files are broken nothing does: no tenant can be judged without them.
    """
    problems = tuple(str(p) for p in desired.problems if p.file.removesuffix(".yaml") not in desired.tenants)
    if desired.operators is None:
        return Plan(problems=problems)
    now = desired.operators.document()
    operator_changes = {
        file: found for file in now if (found := tuple(changes(observed.operators.get(file, {}), now[file])))
    }
    actions = [tenant_action(t, judged, observed.tenants.get(t)) for t, judged in desired.tenants.items()]
    gone = [t for t, seen in observed.tenants.items() if t not in desired.tenants and not seen.removed]
    actions += [Action(t, "remove") for t in gone]
    return Plan(operator_changes, tuple(sorted(actions, key=lambda a: a.tenant)), problems)


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
