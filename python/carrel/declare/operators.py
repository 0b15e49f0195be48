"""The operator's four files as one, and what must agree between them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from carrel.declare.allowlists import Allowlists
from carrel.declare.directory import ALLOWLISTS, GATEWAY, OPERATOR_FILES, PLANS, RATE_CARD
from carrel.declare.egress import Egress, HostSet
from carrel.declare.gateway import Gateway
from carrel.declare.merge import Layer, merge
from carrel.declare.modes import call_findings, mode_findings
from carrel.declare.outward import matches, pattern_findings
from carrel.declare.plans import Plans
from carrel.declare.problems import Finding, Path, Severity, nearest, shown
from carrel.declare.rate_card import ClassRates, RateCard, Rates
from carrel.declare.tenant import Plan, SandboxConfig

OPERATOR_MODELS: Mapping[str, type[Gateway] | type[RateCard] | type[Plans] | type[Allowlists]] = {
    GATEWAY: Gateway,
    RATE_CARD: RateCard,
    PLANS: Plans,
    ALLOWLISTS: Allowlists,
}


_PLANS_OWN: Final = {"display_name", "max_members", "max_thinking", "billing"}
"""Keys of a plan that are no keys of a tenant's."""


@dataclass(frozen=True)
class Operators:
    """What the operator declares for all tenants."""

    gateway: Gateway = field(default_factory=Gateway)
    rate_card: RateCard = field(default_factory=RateCard)
    plans: Plans = field(default_factory=Plans)
    allowlists: Allowlists = field(default_factory=Allowlists)

    @cached_property
    def packages(self) -> frozenset[str]:
        """Every package that is allowed by its name. More may be by a pattern."""
        return self.allowlists.packages.all_names()

    def package_findings(self, path: Path, names: tuple[str, ...]) -> Iterator[Finding]:
        """A finding for each of ``names``, which are at ``path``, that no tenant may name.

        Whether the source has it is found out when it is built.
        """
        if self.packages.issuperset(names):
            return
        refused = self.allowlists.packages.refused(names)
        choice = (*sorted(self.packages), *self.allowlists.packages.patterns)
        for index, name in enumerate(names):
            if name in refused:
                close = nearest(name, tuple(self.packages))
                yield Finding((*path, index), f"{ALLOWLISTS} does not have this package", shown(name), choice, close)

    @cached_property
    def rate_card_hash(self) -> str:
        """The SHA-256 of the rate card's canonical JSON."""
        return hashlib.sha256(canonical(self.rate_card)).hexdigest()

    @cached_property
    def plan_hashes(self) -> Mapping[str, str]:
        """The SHA-256 of each plan's canonical JSON, by name."""
        return {name: hashlib.sha256(canonical(plan)).hexdigest() for name, plan in self.plans.plans.items()}

    @cached_property
    def revision(self) -> str:
        """The SHA-256 of all four in canonical JSON."""
        parts = (self.gateway, self.rate_card, self.plans, self.allowlists)
        return hashlib.sha256(b"\n".join(canonical(part) for part in parts)).hexdigest()

    @cached_property
    def _bases(self) -> dict[str | None, Layer]:
        defaults = self.gateway.defaults.model_dump(mode="json", exclude_unset=True)
        bases: dict[str | None, Layer] = {None: defaults}
        for name, plan in self.plans.plans.items():
            layer = plan.model_dump(mode="json", exclude_unset=True, exclude=_PLANS_OWN)
            bases[name] = merge(defaults, layer)
        return bases

    def base(self, plan: str | None) -> Layer:
        """The layers beneath the file of a tenant on ``plan``."""
        return self._bases.get(plan, self._bases[None])

    @cached_property
    def _permitted(self) -> dict[tuple[str, ...] | None, frozenset[str]]:
        return {}

    def models_for(self, patterns: tuple[str, ...] | None) -> frozenset[str]:
        """The declared models that the allowlist and a tenant's own ``patterns`` both permit."""
        known = self._permitted.get(patterns)
        if known is None:
            known = frozenset(
                model
                for model in self.gateway.models
                if matches(self.allowlists.models, model) and (patterns is None or matches(patterns, model))
            )
            self._permitted[patterns] = known
        return known

    def document(self) -> dict[str, Any]:
        """All four as JSON values without what is default, by file."""
        return {
            GATEWAY: self.gateway.model_dump(mode="json", exclude_defaults=True),
            RATE_CARD: self.rate_card.model_dump(mode="json", exclude_defaults=True),
            PLANS: self.plans.model_dump(mode="json", exclude_defaults=True),
            ALLOWLISTS: self.allowlists.model_dump(mode="json", exclude_defaults=True),
        }


def operators_from(document: Mapping[str, Any]) -> Operators:
    """The operators that ``document`` came from; raises pydantic's ValidationError."""
    read = {
        file: model.model_validate_json(json.dumps(document.get(file, {}))) for file, model in OPERATOR_MODELS.items()
    }
    return assemble(read)


def assemble(models: Mapping[str, Any]) -> Operators:
    """The operators with the model of each file, those of a missing file being empty."""
    gateway, rate_card, plans, allowlists = (models.get(name) for name in OPERATOR_FILES)
    return Operators(gateway or Gateway(), rate_card or RateCard(), plans or Plans(), allowlists or Allowlists())


def canonical(model: Gateway | RateCard | Plans | Plan | Allowlists) -> bytes:
    """A model as JSON with what is default left out: equal bytes, equal meaning."""
    return model.model_dump_json(exclude_defaults=True).encode()


def _fallback_findings(gateway: Gateway, name: str) -> Iterator[tuple[str, Finding]]:
    choice = tuple(gateway.models)
    for index, other in enumerate(gateway.models[name].fallbacks):
        if other not in gateway.models:
            at: Path = ("models", name, "fallbacks", index)
            yield GATEWAY, Finding(at, "no such model", shown(other), choice, nearest(other, choice))


def operator_findings(operators: Operators) -> Iterator[tuple[str, Finding]]:
    """What does not agree between the operator's files, as (file, finding)."""
    gateway, prices = operators.gateway, operators.rate_card.models
    reachable = operators.models_for(None)
    for name, model in gateway.models.items():
        if model.provider not in gateway.providers:
            choice = tuple(gateway.providers)
            yield (
                GATEWAY,
                Finding(
                    ("models", name, "provider"), "no such provider", shown(model.provider), choice,
                    nearest(model.provider, choice),
                ),
            )  # fmt: skip
        yield from _fallback_findings(gateway, name)
        if name not in prices:
            yield GATEWAY, _unpriced(operators, name, reachable)
            continue
        if _is_anthropic(gateway, model.provider):
            yield from ((RATE_CARD, finding) for finding in _hourly_findings(name, prices[name]))
        yield from ((RATE_CARD, finding) for finding in _tier_findings(name, prices[name]))
    default = gateway.default_model
    if default is not None and default not in gateway.models:
        choice = tuple(gateway.models)
        yield GATEWAY, Finding(("default_model",), "no such model", shown(default), choice, nearest(default, choice))
    elif default is not None and default not in reachable:
        yield GATEWAY, Finding(("default_model",), f"{ALLOWLISTS} does not allow this model", shown(default))
    for finding in _defaults_findings(operators):
        yield GATEWAY, finding
    for finding in _plans_findings(operators):
        yield PLANS, finding
    yield from pattern_findings(gateway, operators.allowlists, operators.plans)
    for file, path, patterns in _pattern_lists(operators):
        for index, pattern in enumerate(patterns):
            if pattern != "*" and not any(matches((pattern,), model) for model in gateway.models):
                yield file, Finding((*path, index), "no model is called so", shown(pattern), severity="warning")


def _unpriced(operators: Operators, name: str, reachable: frozenset[str]) -> Finding:
    if operators.rate_card.otherwise is not None:
        message = f"the model has no price of its own: it is charged by `otherwise` of {RATE_CARD}"
        return Finding(("models", name), message, severity="warning", at_key=True)
    message = f"the model has no price: give its rates in {RATE_CARD} under models"
    severity: Severity = "error" if name in reachable else "warning"
    close = nearest(name, tuple(operators.rate_card.models.keys() - operators.gateway.models.keys()))
    return Finding(("models", name), message, nearest=close, severity=severity, at_key=True)


def _is_anthropic(gateway: Gateway, provider: str) -> bool:
    declared = gateway.providers.get(provider)
    return declared is not None and declared.kind == "anthropic"


def _tier_findings(name: str, rates: Rates) -> Iterator[Finding]:
    """A warning where long prompts cost more, but not of calls that are served at another tier."""
    for tier, at in (("batch", rates.batch), ("priority", rates.priority)):
        if at is not None and rates.long_prompts and not at.long_prompts:
            message = "long prompts have rates of their own, but not here: a long one is priced as a short one"
            yield Finding(("models", name, tier), message, severity="warning")


def _hourly_findings(name: str, rates: Rates) -> Iterator[Finding]:
    """A warning where what this vendor's cache keeps for an hour is priced as what it keeps for five minutes."""
    where: Path = ("models", name)
    each_of: list[tuple[Path, ClassRates]] = [(where, rates)]
    each_of += [((*where, "long_prompts", number), longer) for number, longer in enumerate(rates.long_prompts)]
    for path, each in each_of:
        if each.cache_write is not None and each.cache_write_1h is None:
            message = "the vendor takes more for an hour's cache: without cache_write_1h it is priced as cache_write"
            yield Finding((*path, "cache_write"), message, severity="warning")


def _plans_findings(operators: Operators) -> Iterator[Finding]:
    for name, plan in operators.plans.plans.items():
        yield from set_findings(operators, ("plans", name, "egress"), plan.egress)
        yield from call_findings(("plans", name, "sandbox"), plan.sandbox)
        whole = SandboxConfig.model_validate_json(json.dumps(operators.base(name).get("sandbox", {})))
        yield from mode_findings(("plans", name, "sandbox"), whole)


def _defaults_findings(operators: Operators) -> Iterator[Finding]:
    yield from operators.package_findings(("defaults", "packages"), operators.gateway.defaults.packages)
    yield from set_findings(operators, ("defaults", "egress"), operators.gateway.defaults.egress)
    yield from call_findings(("defaults", "sandbox"), operators.gateway.defaults.sandbox)
    yield from mode_findings(("defaults", "sandbox"), operators.gateway.defaults.sandbox)
    seen: dict[str, str] = {}
    for index, key in enumerate(operators.gateway.admin_keys):
        for attribute, value in (("name", key.name), ("sha256", key.sha256)):
            if value in seen:
                yield Finding(("admin_keys", index, attribute), "another admin key has the same")
            seen[value] = attribute


def set_findings(operators: Operators, path: Path, egress: Egress) -> Iterator[Finding]:
    """A finding for each set of hosts that ``egress``, which is at ``path``, names and nobody declares."""
    sets = tuple(operators.allowlists.hosts.sets)
    for key in ("allow", "deny", "only"):
        for index, rule in enumerate(getattr(egress, key) or ()):
            if isinstance(rule, HostSet) and rule.set not in sets:
                where = (*path, key, index, "set")
                yield Finding(where, f"{ALLOWLISTS} has no such set", shown(rule.set), sets, nearest(rule.set, sets))


def _pattern_lists(operators: Operators) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    yield ALLOWLISTS, ("models",), operators.allowlists.models
    yield GATEWAY, ("defaults", "models"), operators.gateway.defaults.models or ()
    for name, plan in operators.plans.plans.items():
        yield PLANS, ("plans", name, "models"), plan.models or ()
