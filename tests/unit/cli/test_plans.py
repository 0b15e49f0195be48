import pytest

from carrel.cli.failures import NotUnderstood
from carrel.cli.plans import PlanView, show_plan

PLAN = {
    "operator_changes": {"_plans.yaml": [{"path": "starter", "old": "(default)", "new": "{}"}]},
    "actions": [
        {"tenant": "acme", "verb": "update", "changes": [{"path": "plan", "old": "a", "new": "b"}], "problems": []},
        {"tenant": "bravo", "verb": "unchanged", "changes": [], "problems": []},
        {"tenant": "newco", "verb": "create", "changes": [], "problems": []},
        {"tenant": "wrong", "verb": "broken", "changes": [], "problems": ["wrong.yaml:1:1: \x1b[2Jno"]},
    ],
    "problems": ["stray.yml:1:1: the file is not read"],
}


def test_what_changes_is_shown_and_what_does_not_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(PLAN)
    assert capsys.readouterr().out.splitlines() == [
        "~ _plans.yaml",
        "    starter: (default) -> {}",
        "~ acme: update",
        "    plan: a -> b",
        "+ newco: create",
        "! wrong: broken",
        "    wrong.yaml:1:1: no",
        "stray.yml:1:1: the file is not read",
        "1 create, 1 update, 1 broken, 1 unchanged",
    ]


def test_broken_files_of_the_operators_are_a_failure_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"problems": ["_gateway.yaml:1:1: the file is missing"], "operators_broken": True}
    show_plan(broken)
    assert capsys.readouterr().out.splitlines() == [
        "_gateway.yaml:1:1: the file is missing",
        "nothing changes: the operator's files are broken, and no tenant can be judged without them",
    ]
    assert PlanView.model_validate(broken).broken
    assert not PlanView.model_validate({"problems": ["x.yaml:1:1: warning: odd"]}).broken


def test_an_empty_plan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan({"actions": []})
    assert capsys.readouterr().out == "nothing changes\n"


def test_what_is_no_plan_is_not_shown() -> None:
    with pytest.raises(NotUnderstood):
        show_plan({"actions": [{"verb": 3}]})
