from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from carrel.declare.load import Tree, load_tree
from carrel.plan.plan import Observed, ObservedTenant, Plan, as_json, compute_plan
from tests.fakes.declarations import declare


def observed(tree: Tree, *, removed: bool = False) -> Observed:
    """What is in force once ``tree`` is."""
    assert tree.operators is not None
    tenants: dict[str, ObservedTenant] = {
        tenant: ObservedTenant(judged.revision, as_json(judged.config), judged.config.suspended or removed, removed)
        for tenant, judged in tree.tenants.items()
        if judged.config is not None
    }
    return Observed("r", tree.operators.document(), tenants)


def verbs(plan: Plan) -> dict[str, str]:
    return {action.tenant: action.verb for action in plan.actions}


def test_everything_is_created_at_first(tmp_path: Path) -> None:
    plan = compute_plan(load_tree(declare(tmp_path, acme="")), Observed())
    assert verbs(plan) == {"acme": "create"}
    assert "_gateway.yaml" in plan.operator_changes
    assert not plan.is_empty


def test_nothing_changes_where_all_is_in_force(tmp_path: Path) -> None:
    tree = load_tree(declare(tmp_path, acme="display_name: x\n"))
    plan = compute_plan(tree, observed(tree))
    assert verbs(plan) == {"acme": "unchanged"}
    assert plan.is_empty


def test_each_kind_of_change_has_its_word(tmp_path: Path) -> None:
    path = declare(tmp_path, a="", b="", c="suspended: true\n", d="", e="")
    before = load_tree(path)
    declare(path, a="display_name: New\n", b="suspended: true\n", c="", d="nope: 1\n", f="")
    (path / "e.yaml").unlink()
    plan = compute_plan(load_tree(path), observed(before))
    assert verbs(plan) == {"a": "update", "b": "suspend", "c": "resume", "d": "broken", "e": "remove", "f": "create"}
    shown = str(plan)
    assert "~ a: update\n    display_name: (default) -> New" in shown
    assert "d.yaml:1:1: nope: unknown key" in shown
    assert "1 create" in shown


def test_what_was_removed_comes_back(tmp_path: Path) -> None:
    tree = load_tree(declare(tmp_path, acme=""))
    assert verbs(compute_plan(tree, observed(tree, removed=True))) == {"acme": "resume"}
    (tmp_path / "acme.yaml").unlink()
    assert verbs(compute_plan(load_tree(tmp_path), observed(tree, removed=True))) == {}


def test_broken_operators_change_nothing(tmp_path: Path) -> None:
    tree = load_tree(declare(tmp_path, acme=""))
    (tmp_path / "_plans.yaml").write_text("nope: 1\n")
    plan = compute_plan(load_tree(tmp_path), observed(tree))
    assert plan.actions == ()
    assert plan.operators_broken
    assert plan.problems[0].startswith("_plans.yaml:1:1: nope: unknown key")


def test_a_changed_price_is_an_operators_change(tmp_path: Path) -> None:
    tree = load_tree(declare(tmp_path, acme=""))
    card = tmp_path / "_rate-card.yaml"
    card.write_text(card.read_text().replace("1.00", "1.10"))
    plan = compute_plan(load_tree(tmp_path), observed(tree))
    assert [str(c) for c in plan.operator_changes["_rate-card.yaml"]] == ["models.demo.input: 1.00 -> 1.10"]


def test_many_gone_at_once_wait_for_a_word(tmp_path: Path) -> None:
    before = load_tree(declare(tmp_path, **{f"t{n}": "" for n in range(10)}))
    for n in range(3):
        (tmp_path / f"t{n}.yaml").unlink()
    plan = compute_plan(load_tree(tmp_path), observed(before))
    assert [verbs(plan)[f"t{n}"] for n in range(3)] == ["hold"] * 3
    assert plan.is_empty
    assert f"carrel reconcile --confirm {plan.confirm}" in str(plan)
    (tmp_path / "t0.yaml").write_text("")
    plan = compute_plan(load_tree(tmp_path), observed(before))
    assert (verbs(plan)["t1"], plan.confirm) == ("remove", "")


def test_a_protected_tenant_is_not_removed(tmp_path: Path) -> None:
    before = load_tree(declare(tmp_path, acme="protect: true\n", other=""))
    (tmp_path / "acme.yaml").unlink()
    plan = compute_plan(load_tree(tmp_path), observed(before))
    assert verbs(plan) == {"acme": "refuse", "other": "unchanged"}


def test_deletions_and_drift_are_shown(tmp_path: Path) -> None:
    before = load_tree(declare(tmp_path, acme="", other=""))
    now = datetime(2026, 3, 1, tzinfo=UTC)
    seen = dict(observed(before).tenants)
    seen["acme"] = replace(seen["acme"], removed=True, suspended=True, delete_at=now)
    seen["other"] = replace(seen["other"], drift=("tenants/other: mode 0755, where mode 0700 is wanted",))
    (tmp_path / "acme.yaml").unlink()
    assert before.operators is not None
    plan = compute_plan(load_tree(tmp_path), Observed("r", before.operators.document(), seen, now))
    assert verbs(plan) == {"acme": "delete", "other": "unchanged"}
    assert "! other: drift: tenants/other: mode 0755" in str(plan)
    earlier = Observed("r", before.operators.document(), seen, now - timedelta(seconds=1))
    assert verbs(compute_plan(load_tree(tmp_path), earlier)) == {"other": "unchanged"}
