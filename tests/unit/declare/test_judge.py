from typing import Any

import pytest

from carrel.declare.allowlists import Allowlists, PackageAllowlist
from carrel.declare.billing import PlanBilling
from carrel.declare.judge import judge
from carrel.declare.operators import Operators
from carrel.declare.plans import Plans
from carrel.declare.tenant import Plan
from tests.unit.declare.test_operators import operators

SOME = operators(default_model="demo")
OPERATORS = Operators(
    SOME.gateway, SOME.rate_card, SOME.plans, Allowlists(packages=PackageAllowlist(names=("jq", "ripgrep")))
)


def test_a_good_tenant_gets_all_layers() -> None:
    verdict = judge(OPERATORS, {"plan": "pro", "packages": ["jq"]}, {"display_name": "mine"})
    assert verdict.config is not None
    assert verdict.config.quotas.tokens_per_day == 5
    assert verdict.config.display_name == "mine"
    assert verdict.config.agents["main"].model == "demo"
    assert len(verdict.revision) == 64


def test_equal_meaning_is_an_equal_revision() -> None:
    one = judge(OPERATORS, {"suspended": False, "packages": ["jq"]}, None)
    two = judge(OPERATORS, {"packages": ["jq"], "agents": {"main": {"model": "demo"}}}, None)
    other = judge(OPERATORS, {"packages": ["ripgrep"]}, None)
    assert one.revision == two.revision != other.revision


@pytest.mark.parametrize(
    ("declared", "path", "near"),
    [
        ({"plan": "prp"}, ("plan",), "pro"),
        ({"packages": ["ripgrp"]}, ("packages", 0), "ripgrep"),
        ({"agents": {"main": {"model": "dem"}}}, ("agents", "main", "model"), "demo"),
        ({"agents": {"main": {"fallbacks": ["x"]}}}, ("agents", "main", "fallbacks", 0), None),
        ({"providers": {"dem": {"api_key": {"secret": "X"}}}}, ("providers", "dem"), "demo"),
        ({"cron": {"a": {"message": "x", "every_seconds": 60, "agent": "mian"}}}, ("cron", "a", "agent"), "main"),
        (
            {"members": [{"name": "ada"}], "cron": {"a": {"message": "x", "every_seconds": 60, "member": "adaa"}}},
            ("cron", "a", "member"),
            "ada",
        ),
        ({"models": ["gpt-*"]}, ("agents", "main", "model"), None),
        (
            {"members": [{"name": "ada"}], "tokens": [{"name": "a", "sha256": "0" * 64, "member": "adaa"}]},
            ("tokens", 0, "member"),
            "ada",
        ),
        (
            {"tokens": [{"name": "a", "sha256": "0" * 64}, {"name": "a", "sha256": "1" * 64}]},
            ("tokens", 1, "name"),
            None,
        ),
    ],
)
def test_what_is_wrong_is_found(declared: dict[str, Any], path: tuple[object, ...], near: str | None) -> None:
    verdict = judge(OPERATORS, declared, None)
    assert verdict.config is None
    (finding,) = verdict.declared
    assert (finding.path, finding.nearest) == (path, near)


def test_what_the_overlay_gets_wrong_is_the_overlays() -> None:
    verdict = judge(OPERATORS, {}, {"packages": ["nope"]})
    assert verdict.config is None
    assert [f.path for f in verdict.overlay] == [("packages", 0)]
    assert verdict.declared == ()
    admin = judge(OPERATORS, {}, {"quotas": {}})
    assert "operator" in admin.overlay[0].message


def on_plan(**plan: Any) -> Operators:
    base = operators(default_model="demo")
    return Operators(base.gateway, base.rate_card, Plans(plans={"small": Plan(**plan)}), base.allowlists)


def test_a_plan_is_for_so_many_people() -> None:
    limited = on_plan(max_members=1)
    two = {"plan": "small", "members": [{"name": "ada"}, {"name": "bob"}]}
    (finding,) = judge(limited, two, None).declared
    assert (finding.path, finding.message) == (("members",), "the plan small is for 1 people at most")
    assert judge(limited, {**two, "members": [{"name": "ada"}]}, None).config is not None


def test_nobody_thinks_more_than_the_plan_lets_them() -> None:
    limited = on_plan(max_thinking="low")
    agents = {"main": {"thinking": "high"}, "calm": {}, "quick": {"thinking": "low"}}
    for declared, overlay in ((agents, None), ({}, {"agents": agents})):
        verdict = judge(limited, {"plan": "small", "agents": declared}, overlay)
        assert verdict.config is not None
        assert {name: one.thinking for name, one in verdict.config.agents.items()} == {
            "main": "low", "calm": "off", "quick": "low"
        }  # fmt: skip
    free = judge(OPERATORS, {"agents": {"main": {"thinking": "high"}}}, None)
    assert free.config is not None
    assert free.config.agents["main"].thinking == "high"


def test_keys_that_are_the_plans_own_are_not_the_tenants() -> None:
    billed = on_plan(billing=PlanBilling(rule="pass_through"), max_members=3, max_thinking="off")
    assert judge(billed, {"plan": "small"}, None).config is not None
