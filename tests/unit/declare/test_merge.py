import pytest

from carrel.declare.merge import effective, merge, overlay_findings


def test_mappings_merge_and_lists_replace() -> None:
    low = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(low, {"a": {"c": [3]}, "e": 2}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": 2}
    assert low == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_a_soft_limit_over_a_bare_number_keeps_it_as_the_hard_one() -> None:
    low = {"quotas": {"tokens_per_day": 100}}
    assert merge(low, {"quotas": {"tokens_per_day": {"soft": 80}}}) == {
        "quotas": {"tokens_per_day": {"hard": 100, "soft": 80}}
    }


def test_null_takes_a_limit_away() -> None:
    assert merge({"quotas": {"tokens_per_day": 5}}, {"quotas": {"tokens_per_day": None}})["quotas"] == {
        "tokens_per_day": None
    }


def test_layers_go_over_each_other_in_order() -> None:
    found = effective(
        {"packages": ["a"], "quotas": {"tokens_per_day": 1}},
        {"quotas": {"tokens_per_day": 2}},
        {"packages": ["b"]},
        "m",
    )
    assert found["packages"] == ["b"]
    assert found["quotas"] == {"tokens_per_day": 2}


def test_there_is_always_an_agent_and_it_has_a_model() -> None:
    assert effective({}, {}, None, "demo")["agents"] == {"main": {"model": "demo"}}
    assert effective({}, {"agents": {"x": {"model": "m"}, "y": {"max_turns": 2}}}, None, "demo")["agents"] == {
        "x": {"model": "m"},
        "y": {"max_turns": 2, "model": "demo"},
    }


def test_an_overlay_narrows_egress_and_never_opens_it() -> None:
    found = effective({}, {"egress": {"allow": ["*.x.com"]}}, {"egress": {"allow": ["a.x.com", "y.com"]}}, "m")
    assert found["egress"] == {"allow": ["*.x.com"], "only": ["a.x.com", "y.com"]}
    found = effective({}, {"egress": {"allow": ["*.x.com"]}}, {"egress": {"allow": []}}, "m")
    assert found["egress"] == {"allow": ["*.x.com"], "only": []}


def test_what_the_operator_denies_stays_denied() -> None:
    found = effective(
        {}, {"egress": {"allow": ["*.x.com"], "deny": ["a.x.com"]}}, {"egress": {"deny": ["b.x.com"]}}, "m"
    )
    assert found["egress"] == {"allow": ["*.x.com"], "deny": ["a.x.com", "b.x.com"]}


@pytest.mark.parametrize(
    ("overlay", "path"),
    [
        ({"quotas": {"tokens_per_day": 1}}, ("quotas",)),
        ({"suspended": False}, ("suspended",)),
        ({"tokens": []}, ("tokens",)),
        ({"agents": {"main": {"max_turns": 9}}}, ("agents", "main", "max_turns")),
        ({"agents": {"main": {"tools": ["shell"]}}}, ("agents", "main", "tools", 0)),
        ({"egress": {"inject": []}}, ("egress", "inject")),
        ({"egress": {"only": []}}, ("egress", "only")),
    ],
)
def test_an_overlay_may_not_widen(overlay: dict[str, object], path: tuple[str | int, ...]) -> None:
    below = {"agents": {"main": {"tools": ["file_read"]}}, "egress": {"allow": ["*.x.com"]}}
    (finding,) = overlay_findings(overlay, below)
    assert finding.path == path


def test_an_overlay_may_say_what_is_the_tenants() -> None:
    below = {"agents": {"main": {"tools": ["file_read", "shell"]}}, "egress": {"allow": ["*.x.com"]}}
    overlay = {
        "display_name": "x", "packages": ["jq"], "egress": {"allow": ["a.x.com"]},
        "agents": {"main": {"model": "m", "tools": ["file_read"]}, "own": {"system_prompt": "x"}},
    }  # fmt: skip
    assert list(overlay_findings(overlay, below)) == []
