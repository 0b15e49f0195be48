from decimal import Decimal
from typing import Any

import pytest

from carrel.declare.allowlists import Allowlists
from carrel.declare.gateway import Gateway, ModelConfig, ProviderConfig
from carrel.declare.operators import Operators, operator_findings, operators_from
from carrel.declare.outward import matches
from carrel.declare.plans import Plans
from carrel.declare.quotas import Quotas
from carrel.declare.rate_card import RateCard, Rates
from carrel.declare.tenant import Plan, TenantDefaults

PROVIDERS = {"demo": ProviderConfig(kind="demo")}
MODELS = {"demo": ModelConfig(provider="demo")}
PRICES = RateCard(models={"demo": Rates(input=Decimal(1), output=Decimal(2))})


def operators(**gateway: Any) -> Operators:
    gateway.setdefault("providers", PROVIDERS)
    gateway.setdefault("models", MODELS)
    plans = Plans(plans={"pro": Plan(quotas=Quotas(tokens_per_day=5), models=("demo",))})
    return Operators(Gateway(**gateway), PRICES, plans)


def test_what_agrees_has_no_findings() -> None:
    assert list(operator_findings(operators(default_model="demo"))) == []


@pytest.mark.parametrize(
    ("gateway", "path", "message"),
    [
        ({"providers": {}}, ("models", "demo", "provider"), "no such provider"),
        ({"models": {**MODELS, "x": ModelConfig(provider="demo")}}, ("models", "x"), "no price"),
        ({"default_model": "dmo"}, ("default_model",), "no such model"),
        ({"defaults": TenantDefaults(packages=("jq",))}, ("defaults", "packages", 0), "does not have this package"),
    ],
)
def test_what_does_not_agree_is_an_error(gateway: dict[str, Any], path: tuple[object, ...], message: str) -> None:
    (file, finding) = next(iter(operator_findings(operators(**gateway))))
    assert (file, finding.path, finding.severity) == ("_gateway.yaml", path, "error")
    assert message in finding.message


def test_a_model_that_nobody_reaches_may_lack_a_price() -> None:
    models = {**MODELS, "x": ModelConfig(provider="demo")}
    some = Operators(Gateway(providers=PROVIDERS, models=models), PRICES, allowlists=Allowlists(models=("demo",)))
    ((_, finding),) = operator_findings(some)
    assert finding.severity == "warning"


def test_an_hours_cache_without_a_rate_of_its_own_is_warned_about_where_the_vendor_has_one() -> None:
    rates = {"input": "3", "output": "15", "cache_write": "3.75"}
    long = {**rates, "over_tokens": 10}
    some = operators_from(
        {
            "_gateway.yaml": {
                "providers": {"a": {"kind": "anthropic"}, "o": {"kind": "openai"}},
                "models": {name: {"provider": name} for name in ("a", "o")},
            },
            "_rate-card.yaml": {"models": {"a": {**rates, "long_prompts": [long]}, "o": rates}},
        }
    )
    found = [(file, finding.path, finding.severity) for file, finding in operator_findings(some)]
    assert found == [
        ("_rate-card.yaml", ("models", "a", "cache_write"), "warning"),
        ("_rate-card.yaml", ("models", "a", "long_prompts", 0, "cache_write"), "warning"),
    ]


def test_the_default_model_must_be_allowed() -> None:
    some = Operators(
        Gateway(providers=PROVIDERS, models=MODELS, default_model="demo"), PRICES, allowlists=Allowlists(models=())
    )
    assert any(f.path == ("default_model",) and f.severity == "error" for _, f in operator_findings(some))


def test_patterns_permit_models() -> None:
    assert matches(("claude-*",), "claude-x")
    assert not matches(("claude-*",), "gpt")
    assert operators().models_for(None) == {"demo"}
    assert operators().models_for(("gpt-*",)) == frozenset()


def test_a_plan_goes_over_the_defaults() -> None:
    some = operators(defaults=TenantDefaults(quotas=Quotas(tokens_per_day=1, requests_per_minute=2)))
    assert some.base("pro")["quotas"] == {"tokens_per_day": 5, "requests_per_minute": 2}
    assert some.base(None) == {"quotas": {"tokens_per_day": 1, "requests_per_minute": 2}}


def test_they_survive_json() -> None:
    some = operators(default_model="demo")
    again = operators_from(some.document())
    assert again == some
    assert again.revision == some.revision
    assert again.rate_card_hash == some.rate_card_hash


def test_long_prompts_that_cost_more_but_not_without_haste_are_warned_about() -> None:
    rates = {"input": "3", "output": "15"}
    longer = {"long_prompts": [{**rates, "over_tokens": 10}]}
    models: dict[str, Any] = {
        "forgot": {**rates, **longer, "batch": rates}, "has": {**rates, **longer, "batch": {**rates, **longer}},
        "none": {**rates, "batch": rates}, "dear": {**rates, **longer, "priority": rates},
    }  # fmt: skip
    some = operators_from(
        {
            "_gateway.yaml": {
                "providers": {"o": {"kind": "openai"}}, "models": {name: {"provider": "o"} for name in models}
            },
            "_rate-card.yaml": {"models": models},
        }
    )  # fmt: skip
    found = [(finding.path, finding.severity) for _, finding in operator_findings(some)]
    assert found == [(("models", "forgot", "batch"), "warning"), (("models", "dear", "priority"), "warning")]
