from typing import Any

import pytest

from carrel.declare.allowlists import Allowlists, PackageAllowlist
from carrel.declare.judge import judge
from carrel.declare.operators import Operators
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
