"""One tenant judged against everything else that is declared: its effective configuration, or what is wrong."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import ValidationError

from carrel.declare.chats import channel_findings
from carrel.declare.directory import GATEWAY, PLANS
from carrel.declare.explain import findings_of
from carrel.declare.merge import Layer, effective, overlay_findings
from carrel.declare.modes import call_findings, mode_findings
from carrel.declare.operators import Operators, set_findings
from carrel.declare.outward import tenant_findings
from carrel.declare.problems import Finding, Path, nearest, shown
from carrel.declare.tenant import Agent, Tenant


@dataclass(frozen=True, slots=True)
class Verdict:
    """The effective configuration with the SHA-256 of its canonical JSON, or None and why.

    ``overlay`` holds what is wrong in the tenant's overlay, ``declared`` what is wrong in the tenant's file.
    """

    config: Tenant | None
    revision: str
    canonical: str = ""
    declared: tuple[Finding, ...] = ()
    overlay: tuple[Finding, ...] = ()


def judge(operators: Operators, declared: Layer, overlay: Layer | None) -> Verdict:
    """The verdict on one tenant. ``declared`` is what its file sets, as JSON values."""
    plan = declared.get("plan")
    if plan is not None and plan not in operators.plans.plans:
        choice = tuple(operators.plans.plans)
        finding = Finding(("plan",), f"{PLANS} has no such plan", shown(plan), choice, nearest(plan, choice))
        return Verdict(None, "", declared=(finding,))
    base = operators.base(plan)
    default = operators.gateway.default_model
    most = None if plan is None else operators.plans.plans[plan].max_thinking
    below = effective(base, declared, None, default, most)
    if overlay:
        wrong = tuple(overlay_findings(overlay, below))
        if wrong:
            return Verdict(None, "", overlay=wrong)
    merged = effective(base, declared, overlay, default, most) if overlay else below
    try:
        config = Tenant.model_validate_json(json.dumps(merged))
    except ValidationError as error:
        return Verdict(None, "", declared=tuple(findings_of(error, Tenant, merged)))
    text = config.model_dump_json(exclude_defaults=True)
    revision = hashlib.sha256(text.encode()).hexdigest()
    findings = tuple(_placed(finding) for finding in _findings(operators, config))
    if not findings:
        return Verdict(config, revision, text)
    in_overlay = tuple(f for f in findings if _is_from(overlay, f.path))
    return Verdict(None, "", declared=tuple(f for f in findings if f not in in_overlay), overlay=in_overlay)


def known_verdict(canonical: str) -> Verdict:
    """The verdict that ``canonical`` was the outcome of before; raises pydantic's ValidationError."""
    revision = hashlib.sha256(canonical.encode()).hexdigest()
    return Verdict(Tenant.model_validate_json(canonical), revision, canonical)


def _placed(finding: Finding) -> Finding:
    """What is wrong in `egress.only` is wrong in the overlay's `egress.allow`, which was put there."""
    if finding.path[:2] != ("egress", "only"):
        return finding
    return replace(finding, path=("egress", "allow", *finding.path[2:]))


def _is_from(overlay: Layer | None, path: Path) -> bool:
    """Whether the value at ``path`` comes from the overlay."""
    at: object = overlay
    for part in path:
        if isinstance(part, int):
            return at is not None
        if not isinstance(at, dict) or part not in at:
            return False
        at = at[part]
    return at is not None


def _findings(operators: Operators, config: Tenant) -> Iterator[Finding]:
    permitted = operators.models_for(config.models)
    for name, agent in config.agents.items():
        yield from _agent_findings(operators, permitted, name, agent)
    yield from operators.package_findings(("packages",), config.packages)
    for provider in config.providers:
        if provider not in operators.gateway.providers:
            choice = tuple(operators.gateway.providers)
            close = nearest(provider, choice)
            yield Finding(("providers", provider), f"{GATEWAY} has no such provider", None, choice, close, at_key=True)
    yield from set_findings(operators, ("egress",), config.egress)
    yield from tenant_findings(operators.gateway, operators.allowlists, config)
    yield from call_findings(("sandbox",), config.sandbox)
    yield from mode_findings(("sandbox",), config.sandbox)
    yield from channel_findings(operators.gateway.channels, config)
    yield from _doubled(("tokens",), [token.name for token in config.tokens], "name")
    yield from _doubled(("tokens",), [token.sha256 for token in config.tokens], "sha256")
    yield from _doubled(("members",), [member.name for member in config.members], "name")
    people = tuple(member.name for member in config.members)
    most = operators.plans.plans[config.plan].max_members if config.plan is not None else None
    if most is not None and len(people) > most:
        yield Finding(("members",), f"the plan {config.plan} is for {most} people at most", f"{len(people)} people")
    yield from _job_findings(config, people)
    for index, token in enumerate(config.tokens):
        if token.member is not None and token.member not in people:
            close = nearest(token.member, people)
            yield Finding(("tokens", index, "member"), "no such member", shown(token.member), people, close)


def _job_findings(config: Tenant, people: tuple[str, ...]) -> Iterator[Finding]:
    """Jobs of agents and of people that there are not."""
    agents = tuple(config.agents)
    for name, job in config.cron.items():
        if job.agent is not None and job.agent not in agents:
            close = nearest(job.agent, agents)
            yield Finding(("cron", name, "agent"), "no such agent", shown(job.agent), agents, close)
        if job.member is not None and job.member not in people:
            close = nearest(job.member, people)
            yield Finding(("cron", name, "member"), "no such member", shown(job.member), people, close)


def _agent_findings(operators: Operators, permitted: frozenset[str], name: str, agent: Agent) -> Iterator[Finding]:
    if agent.model is None:
        yield Finding(
            ("agents", name, "model"), f"the agent names no model and {GATEWAY} has no default_model", at_key=True
        )
    elif agent.model not in permitted:
        yield _model_finding(operators, permitted, ("agents", name, "model"), agent.model)
    for index, model in enumerate(agent.fallbacks):
        if model not in permitted:
            yield _model_finding(operators, permitted, ("agents", name, "fallbacks", index), model)


def _model_finding(operators: Operators, permitted: frozenset[str], path: Path, model: str) -> Finding:
    choice = tuple(sorted(permitted))
    if model in operators.gateway.models:
        default = " (it is the default_model)" if model == operators.gateway.default_model else ""
        return Finding(path, f"this tenant may not use that model{default}", shown(model), choice)
    return Finding(path, f"{GATEWAY} declares no such model", shown(model), choice, nearest(model, choice))


def _doubled(path: Path, values: list[str], key: str) -> Iterator[Finding]:
    if len(set(values)) == len(values):
        return
    for index, value in enumerate(values):
        if value in values[:index]:
            yield Finding((*path, index, key), "another one has the same")
