"""Packages by name, by set and by pattern."""

import pytest
from pydantic import ValidationError

from carrel.declare.allowlists import PackageAllowlist
from carrel.declare.operators import Operators, operators_from
from carrel.declare.tenant import Tenant

SOME = PackageAllowlist.model_validate_json(
    '{"names": ["jq"], "sets": {"more": ["git"]}, "patterns": ["python3*", "ru?y", "*-tool"]}'
)


@pytest.mark.parametrize("name", ["jq", "git", "python3", "python311", "ruby", "my-tool", "3-tool"])
def test_what_is_allowed(name: str) -> None:
    assert SOME.allows(name)


@pytest.mark.parametrize(
    "name",
    ["jqq", "JQ", "python2", "rubby", "tool", "python3 x", "python3\n", "python3*", "python3;id", "$(id)-tool",
     "../-tool", "python3\uff11", "_-tool", ""],
)  # fmt: skip
def test_what_is_not(name: str) -> None:
    assert not SOME.allows(name)
    assert SOME.refused(["jq", name]) == (name,)


@pytest.mark.parametrize("pattern", ["[a-z]*", "a b*", "", "../*", "${x}*", "-*", "*\n", "!x"])
def test_a_pattern_has_two_signs_and_no_more(pattern: str) -> None:
    with pytest.raises(ValidationError):
        PackageAllowlist(patterns=(pattern,))


def test_what_may_be_built_all_the_same_is_exact() -> None:
    assert PackageAllowlist(unfree=("vscode",), insecure=("openssl-1.1.1w",)).insecure == ("openssl-1.1.1w",)
    for key in ("unfree", "insecure"):
        with pytest.raises(ValidationError):
            PackageAllowlist.model_validate_json(f'{{"{key}": ["*"]}}')


def test_a_tenants_packages_are_judged_with_patterns() -> None:
    operators: Operators = operators_from({"_allowlists.yaml": {"packages": SOME.model_dump(mode="json")}})
    config = Tenant(packages=("jq", "python312"))
    assert list(operators.package_findings(("packages",), config.packages)) == []
    (finding,) = operators.package_findings(("packages",), ("python312", "gti"))
    assert (finding.path, finding.nearest) == (("packages", 1), "git")
    assert "python3*" in finding.allowed
